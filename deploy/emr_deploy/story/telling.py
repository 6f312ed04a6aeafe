"""How the story is told: numbered steps, each with who did what and what the hospital's API answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emr_deploy.callers import Answer

Say = Callable[[str], None]


class StoryBroken(Exception):
    """A step did not go as the story says."""


@dataclass(frozen=True)
class Actor:
    """Somebody of a hospital: `title` is how the story calls them, `subject` their token's subject."""

    organization: str
    subject: str
    title: str


@dataclass(frozen=True)
class Step:
    """What was told. `transaction_id` and `block` are None where the answer named none."""

    number: int
    who: str
    what: str
    status: int
    code: str | None
    transaction_id: str | None
    block: int | None


class Teller:
    """Numbers the steps, prints them, and stops the story at the first that went otherwise."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.steps: list[Step] = []
        self.notes: list[tuple[str, int]] = []

    def chapter(self, title: str) -> None:
        self.say(f"\n{title}")

    def remark(self, text: str) -> None:
        self.say(f"    {text}")

    def note(self, version: int, transaction_id: str, block: int) -> None:
        """A note that an import added, within the step before."""
        self.notes.append((transaction_id, block))
        self.remark(f"version {version}  transaction {transaction_id}  block {block}")

    def tell(self, who: Actor, what: str, answer: Answer, expected: int | str) -> dict[str, Any]:
        """Prints the step. `expected` is a status, or the code of the refusal that is due. Raises StoryBroken."""
        body = answer.body
        made = {} if answer.code else body  # a refusal may name the proposal, which no block has
        ids = made.get("transactionId"), made.get("block")
        step = Step(len(self.steps) + 1, who.title, what, answer.status, answer.code, *ids)
        self.steps.append(step)
        self._print(step)
        if expected not in (answer.status, answer.code):
            detail = f": {body['detail']}" if body.get("detail") else ""
            raise StoryBroken(f"step {step.number} should have been {expected}, not {step.status} {step.code}{detail}")
        return body

    def _print(self, step: Step) -> None:
        self.say(f"{step.number:3} {step.who} {step.what}")
        outcome = f"{step.status} {step.code}, as it must be" if step.code else str(step.status)
        if step.transaction_id:
            outcome += f"  transaction {step.transaction_id}  block {step.block}"
        self.remark(f"-> {outcome}")

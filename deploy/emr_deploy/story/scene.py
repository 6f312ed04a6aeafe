"""Where the story plays: two hospitals, the people of the cast, and how one of them calls an API and it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emr_network.topology import Organization

from emr_deploy.bundles import Imported, PatientBundle
from emr_deploy.callers import Callers
from emr_deploy.story.telling import Actor, StoryBroken, Teller

WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Cast:
    """Who plays. `patient` is the one whose record is shared, `stranger` another patient of the same hospital."""

    healthcenter: Actor
    physician: Actor
    other_healthcenter: Actor
    other_physician: Actor
    patient: Actor
    stranger: Actor


@dataclass
class Scene:
    """`owner` is the hospital whose patient's record is shared, `other` the one with which it is.

    `tag` keeps the people of this telling apart from those of others on the same system. `last_block` is the newest
    that an answer named.
    """

    owner: Organization
    other: Organization
    callers: Callers
    teller: Teller
    bundles: Sequence[PatientBundle]
    tag: str = ""
    last_block: int = 0

    @property
    def cast(self) -> Cast:
        owner, other = self.owner.name, self.other.name
        return Cast(
            healthcenter=self._staff(owner, "healthcenter"),
            physician=self._staff(owner, "physician"),
            other_healthcenter=self._staff(other, "healthcenter"),
            other_physician=self._staff(other, "physician"),
            patient=Actor(owner, self.subject("patient-1"), "the patient"),
            stranger=Actor(owner, self.subject("patient-2"), "another patient"),
        )

    def _staff(self, organization: str, role: str) -> Actor:
        return Actor(organization, self.subject(role), f"{organization.upper()}'s {role}")

    def subject(self, name: str) -> str:
        return f"{name}-{self.tag}" if self.tag else name

    async def step(
        self,
        who: Actor,
        what: str,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        expected: int | str = 200,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """`who` calls an API of their hospital, which is told. Raises StoryBroken unless it goes as `expected`."""
        answer = await self.callers.call(who.organization, who.subject, service, method, path, body, params=params)
        self._remember(answer.body.get("block"))
        return self.teller.tell(who, what, answer, expected)

    async def quietly(self, who: Actor, service: str, path: str) -> dict[str, Any]:
        """A read that is no step of its own. Raises Refused."""
        return (await self.callers.call(who.organization, who.subject, service, "GET", path)).required()

    def remember(self, imported: Imported) -> None:
        for note in imported.notes:
            self._remember(note["block"])

    def _remember(self, block: int | None) -> None:
        self.last_block = max(self.last_block, block or 0)

    async def until(self, condition: Callable[[], Awaitable[bool]], otherwise: str) -> float:
        """Waits for `condition`, and returns the seconds that it took. Raises StoryBroken."""
        started = time.monotonic()
        while not await condition():
            require(time.monotonic() < started + WAIT_SECONDS, f"{otherwise} within {WAIT_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - started


def require(condition: bool, otherwise: str) -> None:
    """Raises StoryBroken."""
    if not condition:
        raise StoryBroken(otherwise)

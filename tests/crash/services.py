"""Rounds of kill -9 of both hospitals' services while people write notes, register, share and read.

Everybody sends a request again, under its Idempotency-Key, until it is answered, as the APIs ask for. After a round
each key has had its effect, once: what was answered stands on the ledger, valid, in the block that was named, and there
is nothing on the ledger, or among A's rows, for which no key stands.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emr_deploy.callers import Answer, Unreachable
from emr_model.ledger.functions import Function
from emr_network.topology import Ledger
from support.ledger_access import LedgerAccess, ledger_access
from support.sharing_steps import Cast, Steps, enrol_cast
from support.stack import Actor, Stack, running_stack

SERVICES = ("registration", "records", "consent", "sharer", "relay", "projector", "indexer")
VICTIMS = tuple(f"{service}-{hospital}" for hospital in ("a", "b") for service in SERVICES)
WRITERS = 3
LONGEST_PAUSE_SECONDS = 0.8
PAUSE_SECONDS = 0.1
ANSWER_SECONDS = 240.0
CATCH_UP_SECONDS = 240.0
AGAIN = {
    (202, None),
    (403, "ACCESS_NOT_GRANTED"),  # B's peer does not have the approvals yet
    (409, "CONFLICT"),
    (409, "IDEMPOTENCY_IN_PROGRESS"),
    (409, "SNAPSHOT_PENDING"),
}
ENDED = ("committed", "refused")
ASYNC = {"Prefer": "respond-async"}


@dataclass
class Summary:
    rounds: int = 0
    repeated: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.killed.total()} kills {dict(self.killed)}: {dict(self.answered)} answered, "
            f"{self.repeated} requests repeated; 0 lost, 0 doubled"
        )


@dataclass
class Effects:
    """By function and what it was about: an EMR, or a patient. ``told``: transaction id to block."""

    told: dict[str, int] = field(default_factory=dict)
    wanted: Counter[tuple[Function, str]] = field(default_factory=Counter)
    found: Counter[tuple[Function, str]] = field(default_factory=Counter)


ABOUT = {
    Function.ADD_EMR_NOTE: 1,
    Function.CREATE_EMR: 2,
    Function.SHARE_EMR_SNAPSHOT: 1,
    Function.GET_SHARED_EMR: 2,
}
"""Which argument says what a transaction is about."""


class ServiceRounds:
    """Each call of `run` is one round; whatever is wrong afterwards is an AssertionError."""

    def __init__(self, stack: Stack, ledger: LedgerAccess, cast: Cast, chance: random.Random) -> None:
        self.summary = Summary()
        self._stack = stack
        self._ledger = ledger
        self._cast = cast
        self._chance = chance
        self._effects = Effects()
        self._next_block = stack.height
        self._is_over = False
        self._writers: list[Actor] = []
        self._sharers: list[Steps] = []

    async def begin(self) -> None:
        self._writers = [await self._stack.patient(self._cast.healthcenter) for _ in range(WRITERS)]
        self._sharers = [await Steps.begin(self._stack, self._cast, notes=0)]
        self._next_block = self._stack.height

    async def run(self, kills: int = 1) -> None:
        self._is_over = False
        working = [asyncio.create_task(work) for work in self._work()]
        try:
            for victims in self._victims(kills):
                await asyncio.sleep(self._chance.uniform(0, LONGEST_PAUSE_SECONDS))
                await asyncio.gather(*map(self._stack.kill, victims))
                self.summary.killed.update(victims)
            await asyncio.sleep(self._chance.uniform(0, LONGEST_PAUSE_SECONDS))
            self._is_over = True
            await asyncio.gather(*working)
        finally:
            for task in working:
                task.cancel()
        await self._stack.ready(*(process.name for process in self._stack.system.processes))
        await self._check()
        self.summary.rounds += 1

    def _victims(self, kills: int) -> Iterable[list[str]]:
        """Two at a time, nobody twice."""
        chosen = self._chance.sample(VICTIMS, kills)
        return [chosen[start : start + 2] for start in range(0, kills, 2)]

    # what people do until the round is over; each finishes what it has begun

    def _work(self) -> Iterable[Any]:
        yield from (self._write(patient) for patient in self._writers)
        yield from (self._share(steps) for steps in self._sharers)
        yield self._register()

    async def _write(self, patient: Actor) -> None:
        path = f"/emrs/{patient.emr_id}/notes"
        while not self._is_over:
            key = secrets.token_hex(8)
            if self._chance.random() < 0.3:
                await self._queue(patient, path, key)
                continue
            await self._sent(
                Function.ADD_EMR_NOTE, patient.emr_id, self._cast.physician, "records", path, {"text": "Seen."}, key
            )

    async def _queue(self, patient: Actor, path: str, key: str) -> None:
        """A note that is left waiting is committed by itself."""
        sent = {"Idempotency-Key": key, **ASYNC}
        physician = self._cast.physician
        accepted = await self._answered(physician, "records", "POST", path, {"text": "Seen."}, sent, frozenset({202}))
        place = accepted.headers["location"].removeprefix("/v1")
        async with asyncio.timeout(ANSWER_SECONDS):
            while (state := (await self._answered(physician, "records", "GET", place)).body)["state"] not in ENDED:
                await asyncio.sleep(PAUSE_SECONDS)
        assert state["state"] == "committed", state
        self._told(Function.ADD_EMR_NOTE, patient.emr_id, state)

    async def _register(self) -> None:
        while not self._is_over:
            body = {"subject": f"patient-{secrets.token_hex(8)}", "patient": self._stack.patient_resource()}
            sent = {"Idempotency-Key": secrets.token_hex(8)}
            made = await self._answered(self._cast.healthcenter, "registration", "POST", "/patients", body, sent)
            self._told(Function.CREATE_EMR, made.body["patientId"], made.body)

    async def _share(self, steps: Steps) -> None:
        """Approved, shared by the sharer alone, read by B, ended."""
        patient, msp, physician = steps.patient, steps.other_msp, self._cast.other_physician
        while not self._is_over:
            approval, body = f"/emrs/{patient.emr_id}/sharings/{msp}/owner-approval", {"version": 0}
            await self._answered(self._cast.healthcenter, "consent", "PUT", approval, body)
            await self._answered(patient, "consent", "PUT", f"/me/sharings/{msp}/approval", body)
            self._effects.wanted[Function.SHARE_EMR_SNAPSHOT, patient.emr_id] += 1
            key = secrets.token_hex(8)
            disclosed = await self._sent(
                Function.GET_SHARED_EMR, patient.patient_id, physician, "records", "/disclosures", steps.wanted, key
            )
            await self._answered(physician, "records", "GET", f"/disclosures/{disclosed.body['receipt']}/emr")
            ended = await self._answered(patient, "consent", "DELETE", f"/me/sharings/{msp}", last=frozenset({409}))
            assert ended.code in (None, "SHARING_ENDED")

    async def _sent(
        self, function: Function, about: str, actor: Actor, service: str, path: str, body: Any, key: str
    ) -> Answer:
        answer = await self._answered(actor, service, "POST", path, body, {"Idempotency-Key": key})
        self._told(function, about, answer.body)
        return answer

    def _told(self, function: Function, about: str, body: dict[str, Any]) -> None:
        self._effects.wanted[function, about] += 1
        self._effects.told[body["transactionId"]] = body["block"]
        self.summary.answered[function.wire_name] += 1

    async def _answered(
        self,
        actor: Actor,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        last: frozenset[int] = frozenset(),
    ) -> Answer:
        """Sends it until there is an answer; ``last`` are statuses that are one beside 200 and 201."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                try:
                    answer = await self._stack.call(actor, service, method, path, body, headers=headers)
                except Unreachable:
                    pass
                else:
                    if answer.status in (200, 201) or answer.status in last:
                        return answer
                    is_busy = answer.status in (429, 503) or (answer.status, answer.code) in AGAIN
                    assert is_busy, (method, path, answer.status, answer.body)
                self.summary.repeated += 1
                await asyncio.sleep(PAUSE_SECONDS)

    # what must hold afterwards

    async def _check(self) -> None:
        blocks = await self._ledger.blocks("a", self._next_block)
        self._next_block += len(blocks)
        for block in blocks:
            for transaction in block.transactions:
                if transaction.is_valid and transaction.args:
                    self._count(transaction.args)
                    told = self._effects.told.pop(transaction.transaction_id, block.number)
                    assert told == block.number, "another block than was answered"
        assert not self._effects.told, "what was answered is not on the ledger, or not valid"
        assert self._effects.found == self._effects.wanted, "a request has had no effect, or two"
        await self._stack.wait_for_rows("a", self._next_block - 1, CATCH_UP_SECONDS)
        await self._check_rows()

    def _count(self, arguments: tuple[bytes, ...]) -> None:
        function = Function.by_wire_name(arguments[0].decode())
        if function in ABOUT:
            self._effects.found[function, arguments[ABOUT[function]].decode()] += 1

    async def _check_rows(self) -> None:
        for patient in self._writers:
            rows = await self._stack.sql("a", "select version from care.note where emr_id = $1", patient.emr_id)
            written = self._effects.wanted[Function.ADD_EMR_NOTE, patient.emr_id]
            assert sorted(row["version"] for row in rows) == list(range(1, written + 1)), "rows and ledger differ"
        for steps in self._sharers:
            query = "select count(*) as reads from care.disclosure where emr_id = $1"
            (row,) = await self._stack.sql("a", query, steps.patient.emr_id)
            assert row["reads"] == self._effects.wanted[Function.GET_SHARED_EMR, steps.patient.patient_id]


@asynccontextmanager
async def crashing_services(stack: Stack, seed: int) -> AsyncIterator[ServiceRounds]:
    async with ledger_access(stack) as ledger:
        rounds = ServiceRounds(stack, ledger, await enrol_cast(stack), random.Random(seed))
        await rounds.begin()
        yield rounds


@asynccontextmanager
async def crashing_hospitals(folder: Path, seed: int) -> AsyncIterator[ServiceRounds]:
    async with AsyncExitStack() as stack:
        ledger: Ledger = "fabric" if os.environ.get("CRASH_LEDGER") == "fabric" else "devnet"
        running = await stack.enter_async_context(running_stack(folder, ledger))
        yield await stack.enter_async_context(crashing_services(running, seed))

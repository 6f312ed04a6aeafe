"""Role × operation × hospital × sharing state at the APIs: the tables of ``docs/security.md``, cell by cell.

Each state has an EMR of its own. What a person of the first table is refused, or answered, in every state alike is
tried once, where the EMR is shared; what the second table says, in each state. A request that succeeds and changes the
state is followed by the steps that lead back to it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from emr_deploy.callers import Answer
from emr_model.ledger.codes import Code
from support.access_tables import ANSWERED, BY_STATE, AccessTables
from support.api_operations import Case, request_of
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

TABLES = AccessTables.under("At the APIs")
SERVICES = ("registration", "records", "consent", "indexer")
EVENTS, REBUILD = "GET /events", "POST /rebuilds"
ADDING = ("POST /emrs/{emr}/notes", "POST /emrs/{emr}/imports")
CHANGING = (
    "POST /access-requests",
    "PUT /emrs/{emr}/sharings/{msp}/owner-approval",
    "PUT /me/sharings/{msp}/approval",
    "DELETE /emrs/{emr}/sharings/{msp}",
    "DELETE /me/sharings/{msp}",
)
"""What the state follows from: tried after everything else."""
LAST = "DELETE /emrs/{emr}"
UNDONE_BY = {
    "POST /me/erasure-request": "DELETE /me/erasure-request",
    "DELETE /me/erasure-request": "POST /me/erasure-request",
}
ONCE = frozenset({"none", "expired", "erasing"})
"""To these no steps lead back: each request that changes them has an EMR of its own."""
STEPS = {
    "none": (),
    "requested": ("request",),
    "awaiting patient": ("request", "approve_as_owner"),
    "awaiting owner": ("request", "approve_as_patient"),
    "approved": ("request", "approve_as_owner", "approve_as_patient"),
    "shared": ("request", "share"),
}
AT_ONCE, STATES_AT_ONCE = 4, 3

Offered = Mapping[str, list[str]]
Cell = tuple[str, str, str]
"""Operation, person, state."""


@dataclass
class World:
    """Who calls, by the columns of the table, and what was tried."""

    stack: Stack
    cast: Cast
    people: Mapping[str, Actor]
    offered: Offered
    profile: dict[str, Any]
    http: httpx.AsyncClient
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    states: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STATES_AT_ONCE))
    tried: set[Cell] = field(default_factory=set)

    # EMRs, each in a state

    async def case_in(self, state: str) -> Case:
        """``approved`` and ``expired`` are states in which nothing stays unless the sharer rests."""
        if state in STEPS and state != "shared":
            return await self._led_to(STEPS[state])
        if state == "expired":
            return await _expired(await self._led_to(("request",)))
        case = await self.disclosed()
        if state == "shared":
            return case
        if state == "ended":
            (await case.steps.remove()).required()
            return case
        await self._call(case, case.steps.patient, "registration", "POST /me/erasure-request")
        if state == "erased":
            await self._call(case, self.people["H a"], "registration", "DELETE /emrs/{emr}")
        return case

    async def disclosed(self) -> Case:
        case = await self._led_to(STEPS["shared"])
        case.receipt = await case.steps.receipt()
        return case

    async def _led_to(self, steps: Sequence[str]) -> Case:
        async with self.turns:
            begun = await Steps.begin(self.stack, self.cast, notes=0)
            note = await begun.note("Seen.")
            staff = await self.stack.staff("a", "physician")
        receipt = f"{begun.patient.emr_id}.{secrets.token_hex(32)}"
        case = Case(begun, receipt, note["transactionId"], staff.enrolment_id, self.profile)
        await _follow(case, steps)
        return case

    # cells

    async def try_state(self, state: str, case: Case | None = None) -> None:
        async with self.states:
            case = case or await self.case_in(state)
            await _require_state(case, state)
            for operation in TABLES.by_person:
                if operation not in (*CHANGING, LAST):
                    await self._try_all(operation, state, case)
            await self._try_changing(state, case)
            await self._try_all(LAST, state, case)

    async def _try_all(self, operation: str, state: str, case: Case) -> None:
        await asyncio.gather(*(self._try(cell, case) for cell in _cells_of(operation, state)))

    async def _try_changing(self, state: str, case: Case) -> None:
        cells = [cell for operation in CHANGING for cell in _cells_of(operation, state)]
        await asyncio.gather(*(self._try(cell, case) for cell in cells if _expected(cell) != ANSWERED))
        answered = [cell for cell in cells if _expected(cell) == ANSWERED]
        if state in ONCE:
            others = await asyncio.gather(*(self.case_in(state) for _ in answered[1:]))
            await asyncio.gather(*map(self._try, answered, [case, *others]))
            return
        for number, cell in enumerate(answered):
            if number:
                await _lead_back(case, state)
            await self._try(cell, case)

    async def _try(self, cell: Cell, case: Case) -> None:
        operation, name, _ = cell
        person = case.steps.patient if name == "T a" else self.people[name]
        for service in self.offered[operation]:
            outcome = await self._outcome(operation, service, person, case)
            assert outcome == _expected(cell), (cell, service)
            if outcome == ANSWERED and operation in UNDONE_BY:
                await self._call(case, person, service, UNDONE_BY[operation])
            if outcome == ANSWERED and operation in ADDING:
                await _added(case)
        self.tried.add(cell)

    async def _outcome(self, operation: str, service: str, person: Actor, case: Case) -> str:
        if operation == EVENTS:
            return await self._stream(person)
        answer = await self._answer(operation, service, person, case)
        if operation == REBUILD and answer.code == Code.IDEMPOTENCY_KEY_MISSING.name:
            return ANSWERED  # let in, and stopped at the form: rebuilding is for tests of its own
        return answer.code or ANSWERED

    async def _answer(self, operation: str, service: str, person: Actor, case: Case) -> Answer:
        request = request_of(operation, service, case, person.role)
        headers = {"Idempotency-Key": ""} if operation == REBUILD else None
        async with self.turns:
            return await self.stack.call(
                person, service, request.method, request.path, request.body, params=request.params, headers=headers
            )

    async def _stream(self, person: Actor) -> str:
        headers = {"Authorization": f"Bearer {await self.stack.token(person.subject, person.organization)}"}
        url = f"{self.stack.url('consent', person.organization)}/v1/events"
        async with self.http.stream("GET", url, headers=headers) as answer:
            return ANSWERED if answer.status_code == 200 else str(json.loads(await answer.aread())["code"])

    async def _call(self, case: Case, person: Actor, service: str, operation: str) -> None:
        (await self._answer(operation, service, person, case)).required()


def _cells_of(operation: str, state: str) -> list[Cell]:
    """What is alike in every state is tried in one of them."""
    row = TABLES.by_person[operation]
    return [(operation, name, state) for name, cell in row.items() if cell == BY_STATE or state == "shared"]


def _expected(cell: Cell) -> str:
    _, name, state = cell
    return Code.IDENTITY_UNKNOWN.name if (name, state) == ("T a", "erased") else TABLES.expected(*cell)


async def _added(case: Case) -> None:
    """The EMR has one note more; an import's comes some time after its answer."""
    case.steps.version += 1

    async def is_there() -> bool:
        return bool((await case.steps.read())["version"] == case.steps.version)

    await case.steps.stack.until(is_there, "the note is there", 120)


async def _follow(case: Case, steps: Sequence[str]) -> None:
    for step in steps:
        answer = await getattr(case.steps, step)()
        if answer is not None:
            answer.required()


async def _lead_back(case: Case, state: str) -> None:
    if (await case.steps.sharing())["state"] != "ended":
        (await case.steps.remove()).required()
    await _follow(case, STEPS.get(state, ()))


async def _expired(case: Case) -> Case:
    """Approved by the patient until just now."""
    steps, seconds = case.steps, 2.0
    path = f"/me/sharings/{steps.other_msp}/approval"
    while True:  # an approval that comes too late for its own expiry is refused
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        body = {"version": steps.version, "expiresAt": expires_at.isoformat()}
        if (await steps.stack.call(steps.patient, "consent", "PUT", path, body)).code is None:
            break
        seconds *= 2

    async def has_expired() -> bool:
        return bool((await steps.sharing())["state"] == "expired")

    await steps.stack.until(has_expired, "the sharing has expired")
    return case


async def _require_state(case: Case, state: str) -> None:
    if state == "none":
        found = (await case.steps.stack.call(case.steps.patient, "consent", "GET", "/me/sharings")).required()
        assert found["sharings"] == []
    elif state != "erased":
        expected = "shared" if state == "erasing" else state.replace(" ", "_")
        assert (await case.steps.sharing())["state"] == expected


@asynccontextmanager
async def world_of(stack: Stack, cast: Cast) -> AsyncIterator[World]:
    people = {
        "H a": cast.healthcenter,
        "P a": cast.physician,
        "A a": Actor("a", "admin", "admin", "admin"),
        "H b": cast.other_healthcenter,
        "P b": cast.other_physician,
        "T b": await stack.patient(cast.other_healthcenter),
        "A b": Actor("b", "admin", "admin", "admin"),
        "T other": await stack.patient(cast.healthcenter),
    }
    own = f"/organizations/{stack.msp_id('a')}"
    profile = (await stack.call(people["A a"], "registration", "GET", own)).required()
    async with httpx.AsyncClient(timeout=40, trust_env=False) as http:
        yield World(stack, cast, people, await _offered(stack, http), profile, http)


async def _offered(stack: Stack, http: httpx.AsyncClient) -> Offered:
    """From the services' own descriptions."""
    found: dict[str, list[str]] = {}
    for service in SERVICES:
        document = (await http.get(f"{stack.url(service, 'a')}/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method in methods:
                found.setdefault(f"{method.upper()} {path.removeprefix('/v1')}", []).append(service)
    return found


@pytest.mark.timeout(1200)
async def test_whoever_calls_is_answered_as_the_tables_say(stack: Stack, cast: Cast) -> None:
    async with world_of(stack, cast) as world:
        assert set(world.offered) == set(TABLES.by_person)
        assert TABLES.rows_without_use() == set()
        lasting = [state for state in TABLES.states if state not in ("approved", "expired")]
        expiring = asyncio.create_task(world.disclosed())
        await asyncio.gather(expiring, *map(world.try_state, lasting))
        async with stack.hanging("sharer-a"):  # it would share what is approved, and end what has expired
            expired = await _expired(expiring.result())
            await asyncio.gather(world.try_state("approved"), world.try_state("expired", expired))
    assert world.tried == {
        cell for one in TABLES.by_person for state in TABLES.states for cell in _cells_of(one, state)
    }


async def test_a_token_of_another_hospital_or_of_nobody_opens_nothing(stack: Stack, cast: Cast) -> None:
    """P a's token at B's services, a good token of somebody who is not enrolled at A's."""
    nobody = Actor("a", f"nobody-{secrets.token_hex(4)}", "physician", "")
    tokens = {"b": (cast.physician, Code.TOKEN_INVALID), "a": (nobody, Code.IDENTITY_UNKNOWN)}
    async with world_of(stack, cast) as world:
        case = await world.case_in("none")
        calls = [(operation, service) for operation, services in world.offered.items() for service in services]
        for hospital, (person, code) in tokens.items():
            headers = {"Authorization": f"Bearer {await stack.token(person.subject, person.organization)}"}
            for operation, service in calls:
                request = request_of(operation, service, case, person.role)
                url = f"{stack.url(service, hospital)}/v1{request.path}"
                sent = {**headers, "Idempotency-Key": secrets.token_hex(16)}
                answer = await world.http.request(
                    request.method, url, json=request.body, params=request.params, headers=sent
                )
                assert (answer.status_code, answer.json()["code"]) == (code.status, code.name), (operation, service)

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
import sqlalchemy as sa
from emr_common import idempotency
from emr_common.boundary import PREFIX
from emr_common.http import create_app
from emr_common.idempotency import Answer, Attempt, Handler, Idempotency, IdempotencyKey
from emr_common.ledger import Ledger
from emr_common.problems import OutcomePending, Problem
from emr_common.readiness import Readiness
from emr_common.settings import Settings
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from emr_readmodel.hospital import idempotency as table
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from hlf.commits import Commit
from sqlalchemy.ext.asyncio import AsyncEngine

VALID, MVCC_READ_CONFLICT = 0, 11


@dataclass
class FoundOnLedger:
    """The edge: what the ledger says of transactions by id. Everything beneath is a real Postgres."""

    commits: dict[str, Commit] = field(default_factory=dict)

    async def find(self, transaction_id: str) -> Commit | None:
        return self.commits.get(transaction_id)

    def has(self, transaction_id: str, code: int = VALID) -> None:
        self.commits[transaction_id] = Commit(transaction_id, 7, code)


@dataclass
class Instance:
    """One process of a service; several share a database and the ledger."""

    engine: AsyncEngine
    ledger: FoundOnLedger
    handler: Handler

    @property
    def readiness(self) -> Readiness:
        return Readiness({})

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(
            title="test",
            description="test",
            settings=Settings(org_msp_id="HospitalA"),
            bootstrap=self.bootstrap,
            routers=[self.router()],
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as c,
        ):
            yield c

    @asynccontextmanager
    async def bootstrap(self) -> AsyncIterator[Instance]:
        yield self

    def router(self) -> APIRouter:
        router = APIRouter(prefix=PREFIX)
        once = Idempotency(self.engine, cast(Ledger, self.ledger))

        @router.post("/things/{thing}", status_code=201)
        async def post_thing(request: Request, thing: str, key: IdempotencyKey, body: dict[str, int]) -> JSONResponse:
            return await once.run_once(request, caller(request.headers.get("x-caller", "h-1")), key, self.handler)

        return router


def caller(enrolment_id: str) -> Caller:
    return Caller("issuer", "s", enrolment_id, Role.HEALTHCENTER, None, None, b"", None)


Effect = Callable[[Attempt], Awaitable[Answer]]


class Effects:
    """A handler that counts its effects."""

    def __init__(self, seconds: float = 0) -> None:
        self.made: list[str] = []
        self._seconds = seconds

    async def __call__(self, attempt: Attempt) -> Answer:
        await asyncio.sleep(self._seconds)
        self.made.append(secrets.token_hex(4))
        return Answer(201, {"id": self.made[-1]})


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


@pytest.fixture
def ledger() -> FoundOnLedger:
    return FoundOnLedger()


async def post(client: httpx.AsyncClient, key: dict[str, str], body: Any = None, path: str = "1") -> httpx.Response:
    return await client.post(f"/v1/things/{path}", json={"n": 1} if body is None else body, headers=key)


@pytest.mark.parametrize(
    "headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 256}, {"Idempotency-Key": "a b"}]
)
async def test_a_writing_request_needs_a_plain_key(
    engine: AsyncEngine, ledger: FoundOnLedger, headers: dict[str, str]
) -> None:
    effects = Effects()
    async with Instance(engine, ledger, effects).client() as client:
        answer = await post(client, headers)
    assert answer.json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert effects.made == []


async def test_a_writing_request_has_one_key_and_not_two(engine: AsyncEngine, ledger: FoundOnLedger) -> None:
    effects = Effects()
    async with Instance(engine, ledger, effects).client() as client:
        headers = [("Idempotency-Key", secrets.token_hex(8)) for _ in range(2)]
        answer = await client.post("/v1/things/1", json={"n": 1}, headers=headers)
    assert answer.json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert effects.made == []


async def test_a_repeated_request_has_the_first_ones_answer(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    effects = Effects()
    async with Instance(engine, ledger, effects).client() as client:
        first, again = await post(client, key), await post(client, key)
    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (201, {"id": effects.made[0]})
    assert len(effects.made) == 1


async def test_fifty_at_once_on_two_instances_have_one_effect_and_one_answer(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    effects = Effects(seconds=0.2)
    async with (
        Instance(engine, ledger, effects).client() as one,
        Instance(engine, ledger, effects).client() as other,
    ):
        answers = await asyncio.gather(*(post(client, key) for client in [one, other] * 25))
    assert len(effects.made) == 1
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (201, json.dumps({"id": effects.made[0]}, separators=(",", ":")))
    }


@pytest.mark.parametrize(("body", "path"), [({"n": 2}, "1"), ({"n": 1}, "2")])
async def test_a_key_used_with_another_request_is_refused(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str], body: Any, path: str
) -> None:
    effects = Effects()
    async with Instance(engine, ledger, effects).client() as client:
        await post(client, key)
        answer = await post(client, key, body, path)
    assert answer.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert len(effects.made) == 1


async def test_a_key_belongs_to_its_caller(engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]) -> None:
    effects = Effects()
    async with Instance(engine, ledger, effects).client() as client:
        await post(client, key | {"x-caller": "h-1"})
        await post(client, key | {"x-caller": "h-2"})
    assert len(effects.made) == 2


async def test_a_refused_request_frees_its_key(engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]) -> None:
    outcomes: list[Exception | Answer] = [Problem(Code.ERASURE_REQUESTED), Answer(201, {"id": "x"})]

    async def handler(attempt: Attempt) -> Answer:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async with Instance(engine, ledger, handler).client() as client:
        refused, then = await post(client, key), await post(client, key, {"n": 2})
    assert (refused.status_code, then.status_code) == (409, 201)


async def test_an_unknown_outcome_is_looked_up_and_not_repeated(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    attempts = 0

    async def handler(attempt: Attempt) -> Answer:
        nonlocal attempts
        attempts += 1
        attempt.plan({"emrId": "e"})
        await attempt.submitting("a" * 64, b"{}")
        raise OutcomePending("a" * 64)

    async with Instance(engine, ledger, handler).client() as client:
        first, again = await post(client, key), await post(client, key)
        ledger.has("a" * 64)
        settled, repeated = await post(client, key), await post(client, key)
    assert [first.status_code, again.status_code] == [202, 202]
    assert settled.status_code == repeated.status_code == 201
    assert settled.json() == repeated.json() == {"emrId": "e", "transactionId": "a" * 64, "block": 7}
    assert attempts == 1


async def test_a_pending_transaction_that_turns_out_invalid_is_tried_again(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    seen: list[tuple[bool, dict[str, Any]]] = []

    async def handler(attempt: Attempt) -> Answer:
        seen.append((attempt.is_repeated, dict(attempt.earlier_ids)))
        if len(seen) > 1:
            return Answer(201, {"emrId": "e"})
        attempt.plan({"emrId": "e"})
        await attempt.submitting("b" * 64, b"{}")
        raise OutcomePending("b" * 64)

    async with Instance(engine, ledger, handler).client() as client:
        await post(client, key)
        ledger.has("b" * 64, MVCC_READ_CONFLICT)
        assert (await post(client, key)).status_code == 201
    assert seen == [(False, {}), (True, {"emrId": "e"})]


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


async def test_after_a_kill_the_transaction_that_committed_is_the_answer(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.3)
    attempts = 0

    async def submits_and_dies(attempt: Attempt) -> Answer:
        nonlocal attempts
        attempts += 1
        attempt.plan({"emrId": "e"})
        await attempt.submitting("c" * 64, b"{}")
        ledger.has("c" * 64)
        await asyncio.sleep(3600)
        raise AssertionError

    async with Instance(engine, ledger, submits_and_dies).client() as client:
        dying = asyncio.create_task(post(client, key))
        while "c" * 64 not in ledger.commits:
            await asyncio.sleep(0.01)
        repeated = await post(client, key)
        dying.cancel()
        await asyncio.wait([dying])
    assert repeated.status_code == 201
    assert repeated.json() == {"emrId": "e", "transactionId": "c" * 64, "block": 7}
    assert attempts == 1


async def test_a_repetition_that_meets_its_own_earlier_effect_answers_with_it(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    """The first attempt died; its transaction comes into a block only while the second one is at work."""
    attempts = 0

    async def handler(attempt: Attempt) -> Answer:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            attempt.plan({"emrId": "e"})
            await attempt.submitting("d" * 64, b"{}")
            raise RuntimeError
        ledger.has("d" * 64)
        raise Problem(Code.EMR_EXISTS)

    async with Instance(engine, ledger, handler).client() as client:
        assert (await post(client, key)).status_code == 500
        answer = await post(client, key)
    assert (answer.status_code, answer.json()["transactionId"]) == (201, "d" * 64)


async def test_a_handler_that_takes_longer_than_its_lease_is_not_taken_over(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(idempotency, "RENEW_SECONDS", 0.1)
    effects = Effects(seconds=1.2)
    async with Instance(engine, ledger, effects).client() as client:
        answers = await asyncio.gather(*(post(client, key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len(effects.made) == 1


async def test_an_attempt_that_was_taken_over_can_no_longer_submit(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 0.2)
    submitted: list[str] = []
    may_go_on = asyncio.Event()

    async def slow_at_first(attempt: Attempt) -> Answer:
        if not attempt.is_repeated:
            await may_go_on.wait()
        transaction_id = secrets.token_hex(32)
        await attempt.submitting(transaction_id, b"{}")
        submitted.append(transaction_id)
        return Answer(201, {"transactionId": transaction_id})

    async with Instance(engine, ledger, slow_at_first).client() as client:
        slow = asyncio.create_task(post(client, key))
        await asyncio.sleep(0.4)
        taken_over = await post(client, key)
        may_go_on.set()
        assert (await slow).json()["code"] == "IDEMPOTENCY_IN_PROGRESS"
    assert taken_over.json() == {"transactionId": submitted[0]}
    assert len(submitted) == 1


async def test_remembered_ids_survive_an_attempt_that_broke_off(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(attempt: Attempt) -> Answer:
        seen.append(dict(attempt.earlier_ids))
        if len(seen) == 1:
            await attempt.remember({"patientId": "p"})
            raise RuntimeError
        return Answer(201, dict(attempt.earlier_ids))

    async with Instance(engine, ledger, handler).client() as client:
        assert (await post(client, key)).status_code == 500
        assert (await post(client, key)).json() == {"patientId": "p"}
    assert seen == [{}, {"patientId": "p"}]


async def test_who_waits_too_long_is_told_that_it_is_still_under_way(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.1)
    async with Instance(engine, ledger, Effects(seconds=1)).client() as client:
        first = asyncio.create_task(post(client, key))
        await asyncio.sleep(0.1)
        impatient = await post(client, key)
        assert (await first).status_code == 201
    assert impatient.json()["code"] == "IDEMPOTENCY_IN_PROGRESS"
    assert "retry-after" in impatient.headers


async def test_what_is_kept_of_a_request_is_a_hash_and_ids(
    engine: AsyncEngine, ledger: FoundOnLedger, key: dict[str, str]
) -> None:
    async with Instance(engine, ledger, Effects()).client() as client:
        await post(client, key, {"canary-7c1d": 1})
    async with engine.connect() as connection:
        query = sa.select(table).where(table.c.key == key["Idempotency-Key"])
        row = (await connection.execute(query)).mappings().one()
    assert len(row["request_sha256"]) == hashlib.sha256().digest_size
    assert row["route"] == "POST /v1/things/{thing}"
    assert "canary-7c1d" not in repr(dict(row))

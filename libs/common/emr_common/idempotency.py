"""A writing request with the same Idempotency-Key has one effect and one answer, also after a crash.

Kept are the answer's status and ids, never content. A request runs under a lease: whoever repeats it meanwhile waits,
and takes it over when the lease has run out, which means that its process died. Before anything is done again the
transaction that was handed in is looked up, and what identifies an effect on the ledger (noteId, patientId) is the same
in every attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from emr_model.ledger.codes import Code
from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from hlf.commits import Commit
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common.boundary import template_of
from emr_common.idempotency_store import IdempotencyStore, LeaseLost, Row
from emr_common.ledger import Ledger
from emr_common.problems import OutcomePending, Problem
from emr_common.wallet import Caller

LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0
HANDLER_SECONDS = 60.0
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.05
PENDING = 202
KEY = re.compile(r"[\x21-\x7e]{1,255}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answer:
    """An answer to a write: nothing but ids, versions and blocks, so that it may be stored and given again."""

    status: int
    ids: Mapping[str, Any]

    def response(self) -> JSONResponse:
        return JSONResponse(dict(self.ids), self.status)


class Attempt:
    """One try of a request. Give it to ``Ledger.submit(journal=…)``, so that a crash after it is survived."""

    def __init__(self, store: IdempotencyStore, row: Row) -> None:
        self._store = store
        self._row = row
        self._planned: dict[str, Any] = dict(row.ids)
        self.transaction_id: str | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether an earlier attempt may have left something behind."""
        return not self._row.is_new

    @property
    def earlier_ids(self) -> Mapping[str, Any]:
        """What an earlier attempt had planned: ids to use again."""
        return self._row.ids

    def plan(self, ids: Mapping[str, Any]) -> None:
        """Says what will be answered if the transaction commits, its id and block apart. Stored with the transaction's
        id.
        """
        self._planned = dict(ids)

    async def remember(self, ids: Mapping[str, Any]) -> None:
        """Plans, and stores it at once: for ids under which something happens before the transaction."""
        self.plan(ids)
        await self._store.plan(self._row, self._planned, None)

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        self.transaction_id = transaction_id
        await self._store.plan(self._row, self._planned, transaction_id)

    @property
    def planned(self) -> Mapping[str, Any]:
        return self._planned


Handler = Callable[[Attempt], Awaitable[Answer]]


class Idempotency:
    def __init__(self, engine: AsyncEngine, ledger: Ledger) -> None:
        self._store = IdempotencyStore(engine, LEASE_SECONDS)
        self._ledger = ledger

    async def run_once(
        self, request: Request, caller: Caller, key: str, handler: Handler, *, status: int = 201
    ) -> JSONResponse:
        """Runs ``handler`` unless the caller's key has been used, and answers what was answered then.

        ``status`` is that of success, for answers found on the ledger after a crash. Raises Problem
        IDEMPOTENCY_KEY_REUSED for another request under the key, IDEMPOTENCY_IN_PROGRESS when an attempt elsewhere
        takes longer than 20 s. A Problem below 500 that ``handler`` raises frees the key; OutcomePending keeps it.
        """
        route = f"{request.method} {template_of(request.scope)}"
        fingerprint = await _fingerprint(request)
        give_up_at = time.monotonic() + WAIT_SECONDS
        while True:
            row = await self._store.claim(caller.enrolment_id, key, route, fingerprint)
            if row.request_sha256 != fingerprint or row.route != route:
                raise Problem(Code.IDEMPOTENCY_KEY_REUSED)
            answer = await self._answer(row, handler, status)
            if answer is not None:
                return answer.response()
            if time.monotonic() >= give_up_at:
                raise Problem(Code.IDEMPOTENCY_IN_PROGRESS, headers={"Retry-After": "5"})
            await asyncio.sleep(POLL_SECONDS)

    async def _answer(self, row: Row, handler: Handler, status: int) -> Answer | None:
        """None while another attempt holds the lease."""
        if row.is_mine:
            return await self._found_or_made(row, handler, status)
        if row.state == "done" and row.status != PENDING:
            return Answer(row.status or status, row.ids)
        if row.state == "done":
            return await self._was_pending(row, status)
        return None

    async def _was_pending(self, row: Row, status: int) -> Answer | None:
        """An earlier attempt did not learn its outcome. It is made again only after the ledger called it invalid."""
        assert row.transaction_id is not None
        commit = await self._ledger.find(row.transaction_id)
        if commit is None:
            raise OutcomePending(row.transaction_id)
        if commit.is_valid:
            return await self._finished(row, _found(row, commit, status))
        await self._store.reopen(row)
        return None

    async def _found_or_made(self, row: Row, handler: Handler, status: int) -> Answer:
        found = await self._found_on_ledger(row, status)
        return await self._made(row, handler, status) if found is None else found

    async def _found_on_ledger(self, row: Row, status: int) -> Answer | None:
        """The answer of an earlier attempt that died after handing its transaction in."""
        commit = None if row.transaction_id is None else await self._ledger.find(row.transaction_id)
        if commit is None or not commit.is_valid:
            return None
        return await self._finished(row, _found(row, commit, status))

    async def _made(self, row: Row, handler: Handler, status: int) -> Answer:
        attempt = Attempt(self._store, row)
        try:
            async with self._kept(row), asyncio.timeout(HANDLER_SECONDS):
                answer = await handler(attempt)
        except OutcomePending as pending:
            await self._store.finish(row, PENDING, attempt.planned, pending.transaction_id)
            raise
        except Problem as problem:
            return await self._refused(row, problem, status)
        except BaseException as error:
            await asyncio.shield(self._store.release(row, forget=False))
            if isinstance(error, TimeoutError):
                raise Problem(Code.OVERLOADED) from error
            if isinstance(error, LeaseLost):
                raise Problem(Code.IDEMPOTENCY_IN_PROGRESS) from error
            raise
        return await self._finished(row, answer)

    async def _refused(self, row: Row, problem: Problem, status: int) -> Answer:
        """Raises ``problem``, unless it only says that an earlier attempt's transaction has committed after all."""
        found = await self._found_on_ledger(row, status)
        if found is not None:
            return found
        await self._store.release(row, forget=problem.code.status < 500 and row.transaction_id is None)
        raise problem

    @asynccontextmanager
    async def _kept(self, row: Row) -> AsyncIterator[None]:
        keeper = asyncio.create_task(self._keep(row), name="idempotency lease")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep(self, row: Row) -> None:
        """Renews the lease until it is lost: then the attempt cannot submit any more, whatever it does."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._store.renew(row)
            except LeaseLost:
                log.warning("idempotency_lease_lost")
                return
            except (SQLAlchemyError, OSError) as error:
                log.warning("idempotency_lease_not_renewed", exc_info=error)

    async def _finished(self, row: Row, answer: Answer) -> Answer:
        await self._store.finish(row, answer.status, answer.ids, None)
        return answer


def _found(row: Row, commit: Commit, status: int) -> Answer:
    log.info("answer_found_on_the_ledger", transaction_id=commit.transaction_id)
    return Answer(status, {**row.ids, "transactionId": commit.transaction_id, "block": commit.block_number})


async def _fingerprint(request: Request) -> bytes:
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.url.path.encode(), request.url.query.encode(), await request.body()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def idempotency_key(request: Request, key: Annotated[str | None, Header(alias="Idempotency-Key")] = None) -> str:
    """Raises Problem IDEMPOTENCY_KEY_MISSING, also for one that is empty, over 255 characters or not plain ASCII, and
    for two: which is meant, nobody could tell.
    """
    if key is None or not KEY.fullmatch(key) or len(request.headers.getlist("idempotency-key")) > 1:
        raise Problem(Code.IDEMPOTENCY_KEY_MISSING)
    return key


IdempotencyKey = Annotated[str, Depends(idempotency_key)]

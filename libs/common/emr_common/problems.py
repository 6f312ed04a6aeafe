"""RFC 9457 problem documents with a stable ``code``, and how failures of any kind become one.

No handler here echoes what came in: not a body, not a path's parameter, not an exception's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import structlog
from emr_model.ledger.codes import Code
from emr_model.ledger.refusals import parse_refusal
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hlf.errors import CommitUnknown, ConnectionFailed, HlfError, TransactionInvalid
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from emr_common import telemetry

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:careledger:problem:"
RETRY_AFTER_SECONDS = "2"
RETRIABLE = frozenset({Code.CONFLICT, Code.IDEMPOTENCY_IN_PROGRESS, Code.SNAPSHOT_PENDING, Code.TOO_MANY_REQUESTS}) | {
    code for code in Code if code.status == 503
}

log = structlog.get_logger(__name__)


class Problem(Exception):
    """A failure that the caller is told. ``detail`` is read by people and holds nothing that came from a request or
    record.

    ``members`` are added to the document (``hospital`` with HOSPITAL_UNAVAILABLE). 503 always carries Retry-After.
    """

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        transaction_id: str | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {detail}" if detail else code.name)
        self.code = code
        self.detail = detail
        self.transaction_id = transaction_id
        self.members = dict(members or {})
        self.headers = {**({"Retry-After": RETRY_AFTER_SECONDS} if code.status == 503 else {}), **(headers or {})}

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later, nothing of it having taken effect."""
        return self.code in RETRIABLE

    def document(self) -> dict[str, Any]:
        document = {
            "type": f"{TYPE_PREFIX}{self.code.name.lower().replace('_', '-')}",
            "title": self.code.title,
            "status": self.code.status,
            "code": self.code.name,
            "detail": self.detail or self.code.title,
            "requestId": telemetry.request_id(),
            **self.members,
        }
        return document if self.transaction_id is None else {**document, "transactionId": self.transaction_id}

    def response(self) -> JSONResponse:
        return JSONResponse(self.document(), self.code.status, self.headers, MEDIA_TYPE)


class OutcomePending(Exception):
    """The transaction was handed in and its outcome did not come in time: 202, and no other is made in its place."""

    def __init__(self, transaction_id: str) -> None:
        super().__init__(f"the outcome of transaction {transaction_id} is not known yet")
        self.transaction_id = transaction_id

    def response(self) -> JSONResponse:
        location = {"Location": f"/v1/transactions/{self.transaction_id}"}
        return JSONResponse({"transactionId": self.transaction_id, "state": "pending"}, 202, location)


def from_ledger_error(error: HlfError, *, is_callers: bool = False) -> Problem | OutcomePending:
    """What a failed ledger call means to the caller, to be raised.

    A chaincode's ``CODE: text`` keeps its code; a missing hospital is named in ``hospital``; a lost race is CONFLICT.
    A certificate that is refused is the caller's affair when the call was made with theirs (``is_callers``), and an
    alarm when it is the hospital's own.
    """
    if isinstance(error, CommitUnknown):
        return OutcomePending(error.transaction_id or "")
    if error.is_creator_refused:
        return _creator_refused(error, is_callers)
    if isinstance(error, TransactionInvalid):
        code = Code.CONFLICT if error.retriable else Code.TRANSACTION_INVALID
        return Problem(code, f"validation code {error.validation_name}", transaction_id=error.transaction_id)
    return _refused_by_chaincode(error) or _unavailable(error) or _other(error)


def _creator_refused(error: HlfError, is_callers: bool) -> Problem:
    if is_callers:
        return Problem(Code.CERTIFICATE_REFUSED, transaction_id=error.transaction_id)
    telemetry.SERVICE_IDENTITY_REFUSED.inc()
    log.critical("service_identity_refused", failure=type(error).__name__, grpc_code=_grpc_name(error.code))
    return Problem(Code.LEDGER_UNAVAILABLE, transaction_id=error.transaction_id)


def _refused_by_chaincode(error: HlfError) -> Problem | None:
    refusal = None if error.chaincode_response is None else parse_refusal(error.chaincode_response[1])
    if refusal is None:
        return None
    members = {} if refusal.version is None else {"version": refusal.version}
    return Problem(refusal.code, refusal.text, transaction_id=error.transaction_id, members=members)


def _unavailable(error: HlfError) -> Problem | None:
    missing = sorted(error.unavailable_organizations)
    if not missing:
        return None
    return Problem(
        Code.HOSPITAL_UNAVAILABLE,
        f"{', '.join(missing)} cannot be reached",
        transaction_id=error.transaction_id,
        members={"hospital": missing[0], "hospitals": missing},
    )


def _other(error: HlfError) -> Problem:
    log.error("ledger_call_failed", failure=type(error).__name__, grpc_code=_grpc_name(error.code), exc_info=error)
    if isinstance(error, ConnectionFailed) or error.code in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }:
        return Problem(Code.LEDGER_UNAVAILABLE, transaction_id=error.transaction_id)
    if error.code is grpc.StatusCode.ABORTED:
        return Problem(Code.ENDORSEMENT_MISMATCH, transaction_id=error.transaction_id)
    return Problem(Code.LEDGER_UNAVAILABLE, transaction_id=error.transaction_id)


def _grpc_name(code: grpc.StatusCode | None) -> str | None:
    return None if code is None else code.name


def install(app: FastAPI) -> None:
    """Makes every failure of ``app`` a problem document, 202 for an unknown outcome aside."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(OutcomePending, _on_pending)
    app.add_exception_handler(HlfError, _on_ledger_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(SQLAlchemyError, _on_database_error)
    app.add_exception_handler(OSError, _on_database_error)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _on_pending(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OutcomePending)
    return error.response()


async def _on_ledger_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HlfError)
    return from_ledger_error(error).response()


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return Problem(Code.MALFORMED_REQUEST, "the body is not JSON").response()
    return Problem(Code.VALIDATION_FAILED, members=describe_errors("", error.errors())).response()


def describe_errors(prefix: str, errors: Sequence[Any]) -> dict[str, Any]:
    """Member ``errors``: where and what each of pydantic's findings is, at most twenty; nothing of what was found."""
    return {"errors": [{"pointer": _pointer(prefix, one), "reason": one["type"]} for one in errors[:20]]}


def _pointer(prefix: str, error: Mapping[str, Any]) -> str:
    """A member that nobody knows is the caller's own text: its name is left out."""
    location = [prefix, *error["loc"]] if prefix else list(error["loc"])
    known = location[:-1] if error["type"] == "extra_forbidden" else location
    return "/".join(str(part) for part in known)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {
        400: Code.MALFORMED_REQUEST,
        404: Code.NOT_FOUND,
        405: Code.METHOD_NOT_ALLOWED,
        408: Code.REQUEST_TIMEOUT,
        413: Code.CONTENT_TOO_LARGE,
        415: Code.UNSUPPORTED_MEDIA_TYPE,
        429: Code.TOO_MANY_REQUESTS,
        503: Code.OVERLOADED,
    }
    code = codes.get(error.status_code)
    if code is None:
        log.error("unexpected_http_exception", status=error.status_code)
        code = Code.INTERNAL_ERROR
    allowed = {"Allow": _allowed(request)} if code is Code.METHOD_NOT_ALLOWED else {}
    return Problem(code, headers={**(error.headers or {}), **allowed}).response()


def _allowed(request: Request) -> str:
    """The methods of all routes of a path (RFC 9110, 15.5.6); Starlette names those of the first."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


_AWAY_CLASSES = frozenset({"08", "53", "57"})
"""SQLSTATE classes: connections, resources, an operator's doing."""


async def _on_database_error(_: Request, error: Exception) -> JSONResponse:
    """asyncpg lets the operating system's errors through when it cannot connect."""
    log.error("database_call_failed", exc_info=error)
    return Problem(Code.DATABASE_UNAVAILABLE if _is_away(error) else Code.INTERNAL_ERROR).response()


def _is_away(error: Exception) -> bool:
    """Also a Postgres that starts, stops or has no room: it says so when it is asked for a connection."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, OSError | PoolTimeoutError)
    if error.connection_invalidated or isinstance(error, InterfaceError | OperationalError):
        return True
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error.orig, OSError) or sqlstate[:2] in _AWAY_CLASSES

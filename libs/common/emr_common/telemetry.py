"""Logs, metrics and request ids. Nothing of a record, a person or a token is ever given to them.

A log line is one JSON object on standard error with an event's name, ids and durations. Metrics are labelled by route
template (``/v1/emrs/{emr}``), never by what stood in its place.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from emr_common.settings import LogSettings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

Renderer = Callable[[Any, str, structlog.typing.EventDict], str]


def begun_at_zero(counter: Counter, values: Iterable[str]) -> Counter:
    """The counter with a series for each value of its only label. Prometheus's ``increase`` does not see the first
    count of a series that was not there before, and an alert that watches it would miss it.
    """
    for value in values:
        counter.labels(value)
    return counter


_transactions: ContextVar[list[str] | None] = ContextVar("transactions", default=None)
"""Of the request: one list for it and all tasks that it starts."""

REQUEST_SECONDS = Histogram(
    "emr_http_request_seconds",
    "Time from a request's first byte to its answer's last",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 15, 30),
)
REQUESTS_IN_PROGRESS = Gauge("emr_http_requests_in_progress", "Requests being answered now")
LEDGER_SECONDS = Histogram(
    "emr_ledger_call_seconds",
    "Time of one step of a transaction, or of an evaluation",
    ["function", "step", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 15, 30),
)
SERVICE_IDENTITY_REFUSED = Counter(
    "emr_service_identity_refused_total", "Calls that peers or orderers refused to the hospital's own service identity"
)
CONTENT_MISMATCHES = begun_at_zero(
    Counter("emr_content_mismatches_total", "Contents that were not what the ledger says of them", ["kind"]),
    ("own", "shared", "unendorsed"),
)


def configure_logging(settings: LogSettings) -> None:
    """Sends structlog and the standard library's loggers to standard error in one form. Once a process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_failure,
    ]
    renderer: Renderer = _json if settings.format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=shared,
        logger_factory=lambda name: _Lines(name, renderer),
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.level.upper(), force=True)
    logging.raiseExceptions = False  # else a line that cannot be written is shown with all that it was about
    for chatty in ("httpx", "httpcore", "uvicorn.access"):  # they log whole URLs
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a collector that is away is no news each second


class _Lines:
    """A logger that writes to standard error itself: by way of the standard library's, each line costs three times as
    much. Like that one it gives up what cannot be written, and nobody who logs hears of it.
    """

    def __init__(self, name: str, renderer: Renderer) -> None:
        self.name = name
        self._renderer = renderer

    def write(self, **event: Any) -> None:
        with suppress(Exception):
            sys.stderr.write(f"{self._renderer(self, '', event)}\n")

    debug = info = warning = error = critical = write


_encoder = json.JSONEncoder(default=repr)


def _json(_: Any, __: str, event: structlog.typing.EventDict) -> str:
    return _encoder.encode(event)


def describe_failure(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replaces an exception by its classes and the lines that it passed: its text may hold what a caller sent."""
    failure = event.pop("exc_info", None)
    if failure is True:
        failure = sys.exc_info()[1]
    elif isinstance(failure, tuple):
        failure = failure[1]
    if isinstance(failure, BaseException):
        event["failure_chain"] = _chain(failure)
    return event


def _chain(failure: BaseException) -> list[str]:
    chain: list[str] = []
    cause: BaseException | None = failure
    while cause is not None and len(chain) < 5:
        chain.append(f"{type(cause).__module__}.{type(cause).__qualname__} at {_last_lines(cause)}")
        cause = cause.__cause__ or cause.__context__
    return chain


def _last_lines(failure: BaseException) -> str:
    places = []
    trace = failure.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(reversed(places[-4:]))


def begin_request(given: str | None) -> str:
    """Binds a request id to everything that this task logs: the caller's if it is a plain one, else a new one."""
    clear_contextvars()
    request = given if given is not None and REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    bind_contextvars(request_id=request)
    _transactions.set([])
    return request


def note_transaction(transaction_id: str) -> None:
    """Has the line that is logged of the request name the transaction that it led to."""
    noted = _transactions.get()
    if noted is not None:
        noted[:] = [transaction_id]


def noted_transaction() -> str | None:
    """The last transaction of the request that this task answers."""
    noted = _transactions.get()
    return noted[-1] if noted else None


def request_id() -> str | None:
    """The id of the request that this task answers."""
    found: str | None = get_contextvars().get("request_id")
    return found

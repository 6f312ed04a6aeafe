"""Traces: HTTP → ledger → Kafka → Postgres, sent by OTLP over HTTP when ``EMR_TELEMETRY__OTLP_ENDPOINT`` is set.

Without it nothing of OpenTelemetry is even imported. Spans carry names of routes, functions, topics and tables,
transaction ids and counts; no content, no id of a person or record, no text of an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from emr_common.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer
    from sqlalchemy.ext.asyncio import AsyncEngine

TRACEPARENT = "traceparent"
"""Header of HTTP and of Kafka records (W3C Trace Context)."""

EXPORT_TIMEOUT_SECONDS = 5
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int

OFF = nullcontext()
"""A span where there are no traces."""

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start(settings: Settings, service: str) -> None:
    """Has this process send its spans, if the settings name a place. Once a process."""
    global _provider, _tracer  # noqa: PLW0603 - a process has one place to which its spans go
    if settings.telemetry.otlp_endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    endpoint = f"{settings.telemetry.otlp_endpoint.rstrip('/')}/v1/traces"
    resource = Resource.create(
        {"service.name": service, "service.namespace": "careledger", "careledger.hospital": settings.org_msp_id}
    )
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_SECONDS), schedule_delay_millis=1000
        )
    )
    _tracer = _provider.get_tracer("careledger")


def stop() -> None:
    """Sends what is left."""
    global _provider, _tracer  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def is_on() -> bool:
    return _tracer is not None


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value] | None = None,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> AbstractContextManager[Span | None]:
    """A span around the block; None where traces are off. ``parent`` and ``links`` are values of ``traceparent``;
    without a parent it is a part of the span around it. An exception marks it as failed, by its class alone.
    """
    return OFF if _tracer is None else _span(_tracer, name, kind, attributes, parent, links)


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    kind: Kind,
    attributes: Mapping[str, Value] | None,
    parent: str | None,
    links: Sequence[str],
) -> Iterator[Span]:
    from opentelemetry.trace import Link, SpanKind, StatusCode, use_span

    opened = tracer.start_span(
        name,
        context=None if parent is None else _context_of(parent),
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
        links=[Link(found) for one in links if (found := _span_context_of(one)) is not None],
    )
    with use_span(opened, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield opened
        except BaseException as error:
            opened.set_status(StatusCode.ERROR)
            opened.set_attribute("error.type", type(error).__name__)
            raise


def statement(operation: str, table: str | None) -> AbstractContextManager[object]:
    """A span as ``watch`` makes them, for a statement that goes around SQLAlchemy."""
    if _tracer is None or not _is_within_span():
        return OFF
    return span(f"postgres {operation}", "client", _of_statement(operation, table))


def _is_within_span() -> bool:
    from opentelemetry.trace import get_current_span

    return get_current_span().is_recording()


def _of_statement(operation: str, table: str | None) -> dict[str, Value]:
    attributes: dict[str, Value] = {"db.system.name": "postgresql", "db.operation.name": operation}
    return attributes if table is None else {**attributes, "db.collection.name": table}


def traceparent() -> str | None:
    """Of the span that this task is in, to be carried on; None where there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT)


def _context_of(given: str) -> Any:
    """The context that a ``traceparent`` means; the empty one, so a new trace, for what is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({TRACEPARENT: given}, context=Context())


def _span_context_of(given: str) -> Any:
    from opentelemetry.trace import get_current_span

    found = get_current_span(_context_of(given)).get_span_context()
    return found if found.is_valid else None


def watch(engine: AsyncEngine) -> None:
    """Has each statement within a span be one of its own: what it does to which table, and no value."""
    if _tracer is None:
        return
    from sqlalchemy import event

    event.listen(engine.sync_engine, "before_cursor_execute", _begin_statement)
    event.listen(engine.sync_engine, "after_cursor_execute", _end_statement)
    event.listen(engine.sync_engine, "handle_error", _end_failed_statement)


def _begin_statement(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
    from opentelemetry.trace import SpanKind

    if _tracer is None or context is None or not _is_within_span():
        return
    operation = (statement.split(None, 1) or ["?"])[0].upper()
    table = getattr(getattr(context.compiled, "statement", None), "table", None)
    attributes = _of_statement(operation, getattr(table, "fullname", None))
    context.careledger_span = _tracer.start_span(f"postgres {operation}", kind=SpanKind.CLIENT, attributes=attributes)


def _end_statement(_: Any, __: Any, ___: str, ____: Any, context: Any, _____: bool) -> None:
    opened = getattr(context, "careledger_span", None)
    if opened is not None:
        opened.end()


def _end_failed_statement(context: Any) -> None:
    from opentelemetry.trace import StatusCode

    opened = getattr(context.execution_context, "careledger_span", None)
    if opened is not None:
        opened.set_status(StatusCode.ERROR)
        opened.end()

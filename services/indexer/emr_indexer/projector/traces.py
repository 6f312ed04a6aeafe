"""Going on with the traces that Kafka's records carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emr_common import tracing


@contextmanager
def traced_batch(name: str, headers: Sequence[Any]) -> Iterator[None]:
    """A span around the work on a batch, in the trace of its first record that has one and linked to the others'; in
    each of these a span that says where the work was done.
    """
    parents = list(dict.fromkeys(_parents(headers))) if tracing.is_on() else []
    attributes: dict[str, str | int] = {"messaging.system": "kafka", "messaging.batch.message_count": len(headers)}
    if not parents:
        yield
        return
    with tracing.span(name, "consumer", attributes, parent=parents[0], links=parents[1:]):
        place = tracing.traceparent()
        yield
    for parent in parents[1:]:
        with tracing.span(name, "consumer", attributes, parent=parent, links=[place] if place else []):
            pass


def _parents(headers: Iterable[Any]) -> Iterator[str]:
    for each in headers:
        pairs = each.items() if isinstance(each, Mapping) else each or ()
        for key, value in pairs:
            if key == tracing.TRACEPARENT and isinstance(value, bytes):
                yield value.decode("ascii", "replace")

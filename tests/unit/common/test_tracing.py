"""What a process sends of its requests to a collector, and what it does not."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.otlp import OtlpReceiver, otlp_receiver
from support.serving import serving

TOKEN = {"authorization": "Bearer somebody"}


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running


async def served(tmp_path: Path, receiver: OtlpReceiver, trace_id: str) -> None:
    headers = {**TOKEN, "traceparent": f"00-{trace_id}-{'b' * 16}-01", "x-request-id": "request-0001"}
    async with serving(tmp_path, settings={"EMR_TELEMETRY__OTLP_ENDPOINT": receiver.url}) as server:
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
            await client.post("/v1/slow?canary-7c1d", json={"seconds": 0})
            await client.post("/v1/slow", json={"canary-7c1d": 0})
            await client.get("/v1/canary-7c1d")
            await client.request("CANARY", "/v1/slow")
        server.process.terminate()
        assert await server.ended() == 0


async def test_a_request_is_a_span_of_its_route_in_the_callers_trace(tmp_path: Path, receiver: OtlpReceiver) -> None:
    trace_id = secrets.token_hex(16)
    await served(tmp_path, receiver, trace_id)
    spans = receiver.trace(trace_id)
    names = [span.name for span in spans]
    assert names == ["POST /v1/slow", "POST /v1/slow", "GET (none)", "other /v1/slow"]
    first = spans[0]
    assert (first.service, first.hospital, first.parent_id) == ("t", "HospitalA", "b" * 16)
    assert first.attributes["http.route"] == "/v1/slow"
    assert first.attributes["http.response.status_code"] == "200"
    assert first.attributes["careledger.request_id"] == "request-0001"
    assert b"canary" not in receiver.raw.lower()
    assert b"somebody" not in receiver.raw


@pytest.mark.parametrize("given", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5000])
async def test_a_trace_context_that_is_none_begins_a_new_trace(given: str) -> None:
    from emr_common import tracing
    from emr_common.settings import Settings, TelemetrySettings

    with otlp_receiver() as receiver:
        settings = Settings(org_msp_id="HospitalA", telemetry=TelemetrySettings(otlp_endpoint=receiver.url))
        tracing.start(settings, "test")
        try:
            with tracing.span("work", "consumer", parent=given, links=[given]):
                carried = tracing.traceparent()
        finally:
            tracing.stop()
        (span,) = receiver.spans
    assert carried is not None
    assert carried.split("-")[1] == span.trace_id
    assert span.parent_id == ""


async def test_a_failure_is_known_by_its_class_alone() -> None:
    from emr_common import tracing
    from emr_common.settings import Settings, TelemetrySettings

    with otlp_receiver() as receiver:
        settings = Settings(org_msp_id="HospitalA", telemetry=TelemetrySettings(otlp_endpoint=receiver.url))
        tracing.start(settings, "test")
        try:
            with pytest.raises(ValueError, match="canary"), tracing.span("work"):
                raise ValueError("canary-7c1d")
        finally:
            tracing.stop()
        (span,) = receiver.spans
        assert span.attributes == {"error.type": "ValueError"}
        assert b"canary" not in receiver.raw


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    program = (
        "import sys, emr_common.http, emr_common.foundation, emr_common.tracing as t\n"
        "with t.span('x') as s: assert s is None and t.traceparent() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk') or 'otlp' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

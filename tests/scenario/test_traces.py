"""One trace from a request to its rows."""

from __future__ import annotations

import json
import secrets

import pytest_asyncio
from support.otlp import ReceivedSpan
from support.sharing_steps import Cast, enrol_cast
from support.stack import Stack


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cast(stack: Stack) -> Cast:
    return await enrol_cast(stack)


WANTED = {
    ("records", "POST /v1/emrs/{emr}/notes"),
    ("records", "ledger endorse"),
    ("records", "ledger commit"),
    ("records", "postgres INSERT"),
    ("relay", "publish a.ledger.events"),
    ("projector", "process a.ledger.events"),
    ("projector", "postgres INSERT"),
}


async def test_a_notes_trace_goes_from_http_through_ledger_and_kafka_to_postgres(stack: Stack, cast: Cast) -> None:
    patient = await stack.patient(cast.healthcenter)
    trace_id, word = secrets.token_hex(16), f"zebra{secrets.token_hex(6)}"
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    path = f"/emrs/{patient.emr_id}/notes"
    answer = (await stack.call(cast.physician, "records", "POST", path, {"text": word}, headers=headers)).required()

    async def is_whole() -> bool:
        return {(span.service, span.name) for span in stack.collector.trace(trace_id)} >= WANTED

    await stack.until(is_whole, "the trace has a span of each step")
    spans = stack.collector.trace(trace_id)
    assert {span.hospital for span in spans} == {"HospitalA"}
    ids = [span.attributes.get("careledger.transaction_id") for span in spans if span.name == "ledger commit"]
    assert answer["transactionId"] in ids
    by_id = {span.span_id: span for span in spans}
    (published,) = [span for span in spans if span.name.startswith("publish")]
    assert ancestors(published, by_id) == ["POST /v1/emrs/{emr}/notes"]
    row = next(span for span in spans if (span.service, span.name) == ("projector", "postgres INSERT"))
    assert ancestors(row, by_id) == [
        "process a.ledger.events", "publish a.ledger.events", "POST /v1/emrs/{emr}/notes"
    ]  # fmt: skip
    sent = stack.collector.raw
    for secret in (word, patient.patient_id, patient.emr_id, patient.enrolment_id, cast.physician.enrolment_id):
        assert secret.encode() not in sent


def ancestors(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> list[str]:
    names = []
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


async def test_the_log_line_of_a_write_names_request_and_transaction(stack: Stack, cast: Cast) -> None:
    patient = await stack.patient(cast.healthcenter)
    request_id = f"request-{secrets.token_hex(8)}"
    path = f"/emrs/{patient.emr_id}/notes"
    answer = await stack.call(
        cast.physician, "records", "POST", path, {"text": "Seen."}, headers={"X-Request-Id": request_id}
    )
    found: list[dict[str, str]] = []

    async def is_logged() -> bool:
        lines = [json.loads(line) for line in stack.log("records-a").read_text().splitlines() if request_id in line]
        found[:] = [one for one in lines if one["event"] == "request"]
        return bool(found)

    await stack.until(is_logged, "the request is logged")
    (line,) = found
    assert line["transaction_id"] == answer.body["transactionId"]
    assert line["route"] == "/v1/emrs/{emr}/notes"

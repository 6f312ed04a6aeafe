"""What a patient takes home: the EMR as a document, and every read of it by anybody."""

from __future__ import annotations

import io

import httpx
from pypdf import PdfReader
from support.sharing_steps import Steps
from support.stack import Actor


async def get(steps: Steps, actor: Actor, path: str, accept: str) -> httpx.Response:
    token = await steps.stack.token(actor.subject, actor.organization)
    headers = {"Authorization": f"Bearer {token}", "Accept": accept}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        return await http.get(f"{steps.stack.url('records', actor.organization)}/v1{path}", headers=headers)


async def test_a_patient_reads_notes_proofs_and_readers_in_a_pdf(steps: Steps) -> None:
    await steps.share()
    await steps.receipt()
    await steps.read()
    added = await steps.note("Łukasz: #strong[nothing] unusual.")
    await steps.stack.wait_for_rows("a", added["block"])
    answer = await get(steps, steps.patient, "/me/emr", "application/pdf")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)
    compact = "".join(text.split())
    assert "Łukasz:#strong[nothing]unusual." in compact
    assert added["transactionId"] in compact
    assert steps.cast.physician.enrolment_id in compact
    assert steps.cast.other_physician.enrolment_id in compact
    accesses = (await steps.stack.call(steps.patient, "records", "GET", "/me/accesses")).required()["accesses"]
    kinds = {(one["hospital"], one["role"], one["action"], one["purpose"]) for one in accesses}
    assert (steps.other_msp, "physician", "read-shared-emr", "TREAT") in kinds
    assert (steps.stack.msp_id("a"), "physician", "read-emr", None) in kinds
    assert (steps.stack.msp_id("a"), "patient", "download-emr", None) in kinds


async def test_only_the_patient_learns_who_reads(steps: Steps) -> None:
    for actor in (steps.cast.physician, steps.cast.healthcenter):
        answer = await steps.stack.call(actor, "records", "GET", "/me/accesses")
        assert (answer.status, answer.code) == (403, "ROLE_NOT_ALLOWED")

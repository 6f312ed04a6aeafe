"""The workflow "Managing an EMR" over HTTP: registered, read, noted, downloaded; writers at the same time."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from emr_deploy.callers import Callers
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from support.ledger_access import LedgerAccess
from support.sharing_steps import Cast, Steps
from support.stack import Stack


async def test_a_patient_is_registered_read_noted_and_downloads_the_updated_emr(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=0)
    before = await steps.read()
    added = await steps.note("Blood pressure 128 over 82.")
    assert (before["version"], before["patientId"]) == (0, steps.patient.patient_id)
    assert (await steps.read())["version"] == 1
    download = (await stack.call(steps.patient, "records", "GET", "/me/emr")).required()
    patient, note = (entry["resource"] for entry in download["entry"])
    assert patient["resourceType"] == "Patient"
    (document,) = [one["resource"] for one in note["entry"] if one["resource"]["resourceType"] == "DocumentReference"]
    text = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
    assert text == "Blood pressure 128 over 82."
    await stack.wait_for_rows("a", added["block"])
    (row,) = await stack.sql("a", "select * from care.note where emr_id = $1", steps.patient.emr_id)
    assert (row["version"], row["transaction_id"], row["block"]) == (1, added["transactionId"], added["block"])


async def test_another_hospitals_people_see_nothing_of_it(steps: Steps, ledger: LedgerAccess) -> None:
    """Refused by the service, and by the contract when it is asked without one."""
    reader, emr_id = steps.cast.other_physician, steps.patient.emr_id
    read = await steps.stack.call(reader, "records", "GET", f"/emrs/{emr_id}")
    note = await steps.stack.call(reader, "records", "POST", f"/emrs/{emr_id}/notes", {"text": "x"})
    assert (read.status, read.code, note.status, note.code) == (403, "EMR_NOT_OWNED", 403, "EMR_NOT_OWNED")
    assert await ledger.refusal(reader, Function.READ_EMR, emr_id) is Code.EMR_NOT_OWNED
    found = await steps.stack.call(reader, "records", "GET", "/emrs", params={"patientId": steps.patient.patient_id})
    assert found.code == "EMR_NOT_FOUND"
    await steps.stack.wait_for_rows("b")
    assert await steps.stack.sql("b", "select 1 from care.note where emr_id = $1", emr_id) == []
    (row,) = await steps.stack.sql("b", "select demographics from care.emr where emr_id = $1", emr_id)
    assert row["demographics"] is None


async def test_the_same_idempotency_key_twice_is_one_note(steps: Steps) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    answers = [await steps.post_note("Posted twice.", headers=headers) for _ in range(2)]
    at_once = await asyncio.gather(*(steps.post_note("Posted twice.", headers=headers) for _ in range(4)))
    assert {one.status for one in (*answers, *at_once)} == {201}
    assert all(one.body == answers[0].body for one in (*answers, *at_once))
    assert (await steps.read())["version"] == 2


async def test_twenty_notes_at_once_through_two_instances_are_twenty_versions(stack: Stack, cast: Cast) -> None:
    steps = await Steps.begin(stack, cast, notes=0)
    path, who = f"/emrs/{steps.patient.emr_id}/notes", cast.physician.subject
    async with two_instances_of_records(stack), Callers(stack.home, stack.system.ports) as callers:
        services = ("records", "records-2")
        answers = await asyncio.gather(
            *(
                callers.call("a", who, services[number % 2], "POST", path, {"text": f"Note {number}."})
                for number in range(20)
            )
        )
    assert [one.status for one in answers] == [201] * 20, [one.body for one in answers]
    assert sorted(one.body["version"] for one in answers) == list(range(1, 21))
    assert len({one.body["transactionId"] for one in answers}) == 20
    await stack.wait_for_rows("a")
    rows = await stack.sql("a", "select version from care.note where emr_id = $1", steps.patient.emr_id)
    assert sorted(row["version"] for row in rows) == list(range(1, 21))


@asynccontextmanager
async def two_instances_of_records(stack: Stack) -> AsyncIterator[None]:
    try:
        await emr(stack, "scale", "records=2", "--org", "a")
        yield
    finally:
        await emr(stack, "scale", "records=1", "--org", "a")


async def emr(stack: Stack, *arguments: str) -> str:
    """The command as a person types it."""
    command = Path(sys.executable).with_name("emr")
    environment = {**os.environ, "EMR_HOME": str(stack.home.root)}
    process = await asyncio.create_subprocess_exec(
        command, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()

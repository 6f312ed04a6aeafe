"""Schema care made anew from blocks while it serves, and compared with them."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from emr_common.sealing import WrappingKey
from emr_indexer.projector import store
from emr_indexer.projector.records import Record
from emr_model.ledger.events import PARTITIONS
from emr_model.ledger.values import Event, Life
from emr_readmodel import care, engine
from emr_readmodel.roles import provision
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from support.catalog import QUERIES, catalog
from support.ledger_writer import Patient, visit_note
from support.postgres import PostgresServer
from support.read_model import Hospital, query, rows
from support.rebuilding import rebuild, verify
from support.reference_replay import actual


@pytest.fixture
async def hospital_a(database: AsyncEngine, wrapping: WrappingKey) -> Hospital:
    await store.prepare(database)
    return Hospital(database, wrapping)


async def _story(hospital: Hospital) -> list[Patient]:
    writer = hospital.writer
    writer.cut(writer.register("HospitalA"), writer.register("HospitalB"))
    patients = []
    for number in range(4):
        patient, creation = await hospital.admit()
        writer.cut(creation)
        for _ in range(number):
            writer.cut(writer.add_note(patient, visit_note()))
        patients.append(patient)
    _, request = writer.request(patients[2], "HospitalB")
    writer.cut(request)
    writer.cut(writer.set_life(patients[3], Life.ERASED, Event.EMR_ERASED))
    return patients


async def test_rows_come_back_as_they_were_and_views_read_the_new_ones(hospital_a: Hospital) -> None:
    await _story(hospital_a)
    await hospital_a.project()
    visits = await query(hospital_a.database, "select * from analytics.visit order by 1, 3")
    before = await catalog(hospital_a.database)
    async with hospital_a.database.begin() as connection:
        await connection.execute(sa.delete(care.note))
        await connection.execute(sa.update(care.emr).values(family_name="Somebody else"))
    last = len(hospital_a.writer.blocks) - 1
    assert await rebuild(hospital_a) == {"block": last, "parked": 0}
    assert await actual(hospital_a.database) == await hospital_a.reference()
    assert await query(hospital_a.database, "select * from analytics.visit order by 1, 3") == visits
    assert await catalog(hospital_a.database) == before
    assert {each["block"] for each in await rows(hospital_a.database, care.position)} == {last}


async def test_a_projector_at_work_goes_on_after_the_swap(hospital_a: Hospital) -> None:
    (patient, *_) = await _story(hospital_a)
    await hospital_a.project()
    done = len(hospital_a.records())
    rebuilding = asyncio.create_task(rebuild(hospital_a))
    for _ in range(12):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
        fresh = hospital_a.records()
        await hospital_a.projector.project(fresh[done:])
        done = len(fresh)
        assert len(await query(hospital_a.database, "select * from care.emr")) == 4
    await rebuilding
    hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
    await hospital_a.projector.project(hospital_a.records()[done:])
    assert await actual(hospital_a.database) == await hospital_a.reference()
    assert await rows(hospital_a.database, care.dead_letter) == []


async def test_a_rebuild_fills_what_blocks_that_were_left_out_had_brought(hospital_a: Hospital) -> None:
    await _story(hospital_a)
    records = hospital_a.records()
    await hospital_a.projector.project(records[:9])
    await hospital_a.projector.project([Record(0, 0, b"no message")])
    await hospital_a.projector.project(records[30:])
    assert len(await store.stopped_partitions(hospital_a.database)) == PARTITIONS
    await rebuild(hospital_a)
    assert await store.stopped_partitions(hospital_a.database) == frozenset()
    assert await actual(hospital_a.database) == await hospital_a.reference()
    for partition in range(PARTITIONS):
        hospital_a.projector.resume(partition)
    assert len(await hospital_a.projector.project([Record(0, 0, b"no message"), *records])) == len(records) + 1


async def test_a_verification_names_what_differs_and_nothing_else(hospital_a: Hospital) -> None:
    patients = await _story(hospital_a)
    await hospital_a.project()
    whole = await verify(hospital_a)
    assert (whole["found"], whole["differences"], whole["parked"]) == (0, [], 0)
    assert whole["rows"] > 20
    changes = [
        f"update care.note set content = jsonb_set(content, '{{type}}', '\"x\"') where emr_id = '{patients[2].emr_id}'"
        " and version = 1",
        f"update care.note set content = replace(content::text, '1.0', '1.00')::jsonb where emr_id ="
        f" '{patients[2].emr_id}' and version = 2",
        f"delete from care.condition where emr_id = '{patients[2].emr_id}' and version = 2",
        f"update care.emr set life = 'active' where emr_id = '{patients[3].emr_id}'",
        f"delete from care.emr_position where emr_id = '{patients[0].emr_id}'",
        "insert into care.ending (emr_id, recipient_msp, number, block) values ('e', 'X', 3, 1)",
    ]
    async with hospital_a.database.begin() as connection:
        for change in changes:
            await connection.execute(sa.text(change.replace(":", r"\:")))
    with capture_logs() as lines:
        told = await verify(hospital_a)
    (line,) = (line for line in lines if line["event"] == "rows_differ_from_ledger")
    assert (line["log_level"], line["job_id"], line["differences"]) == ("critical", "j", told["found"])
    named = {
        (each["table"], each["key"].get("emr_id"), each["key"].get("version"), each["wrong"], *each["columns"])
        for each in told["differences"]
    }
    assert named == {
        ("note", patients[2].emr_id, 1, "different", "content"),
        ("note", patients[2].emr_id, 2, "different", "content"),
        ("condition", patients[2].emr_id, 2, "missing"),
        ("emr", patients[3].emr_id, None, "different", "life"),
        ("emr_position", patients[0].emr_id, None, "missing"),
        ("ending", "e", None, "surplus"),
    }
    assert told["found"] == len(named)
    assert "Hypertension" not in str(told)
    await rebuild(hospital_a)
    assert (await verify(hospital_a))["found"] == 0


async def test_what_is_written_during_a_verification_is_no_difference(
    hospital_a: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    (patient, *_) = await _story(hospital_a)
    await hospital_a.project()
    monkeypatch.setattr("emr_indexer.jobs.verification.WAIT_SECONDS", 0.05)
    verifying = asyncio.create_task(verify(hospital_a))
    for _ in range(10):
        hospital_a.writer.cut(hospital_a.writer.add_note(patient, visit_note()))
        await asyncio.sleep(0.02)
        await hospital_a.project()
    told = await verifying
    assert told["differences"] == []


async def test_the_services_role_rebuilds_and_the_catalog_says_what_it_said(
    server: PostgresServer, wrapping: WrappingKey
) -> None:
    passwords = dict.fromkeys(("service_password", "analyst_password", "public_password"), "p")
    urls = await provision(server.url(), "rebuilt", **passwords)
    service, analyst = engine.create(urls["service"], 5), engine.create(urls["analyst"], 1)
    try:
        await store.prepare(service)
        hospital = Hospital(service, wrapping)
        (patient, *_) = await _story(hospital)
        await hospital.project()
        before = await catalog(service)
        assert all(before[kind] for kind in QUERIES if kind != "triggers and policies")
        async with analyst.connect() as left_open:
            await left_open.execute(sa.text("set statement_timeout = 0"))
            await left_open.execute(sa.text("set idle_in_transaction_session_timeout = 0"))
            await left_open.execute(sa.text("select * from analytics.visit"))
            assert (await rebuild(hospital, patience_seconds=0))["parked"] == 0
            with pytest.raises(sa.exc.DBAPIError, match="connection"):
                await left_open.execute(sa.text("select 1"))
            await left_open.invalidate()
        hospital.writer.cut(hospital.writer.add_note(patient, visit_note()))
        await hospital.project()
        assert await actual(service) == await hospital.reference()
        assert await catalog(service) == before
        assert (await verify(hospital))["found"] == 0
        assert len(await query(analyst, "select * from analytics.visit")) == 4
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            await query(analyst, "select hospital.make_shadow('care_rebuild')")
        with pytest.raises(sa.exc.DBAPIError, match="no shadow has this name"):
            await query(service, "select hospital.drop_shadow('hospital')")
    finally:
        await service.dispose()
        await analyst.dispose()

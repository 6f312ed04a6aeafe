"""No clinical content where it does not belong: canaries go into a record and are searched for in every sink.

Strings are put into demographics, notes, requests that go well and requests that go wrong; then everything that the
system keeps is searched for them. What is planted in each of these places is found.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from emr_deploy.kafka import Kafka
from support import sinks
from support.canary import Canary, Search, forms
from support.fhir_samples import bundle, encounter, observation
from support.sharing_steps import Cast, Steps
from support.sinks import Contents
from support.stack import Actor, Stack

SYSTEM = "http://hospital.smarthealthit.org"
CONTENT = (
    "family name", "given name", "identifier", "telephone", "street",
    "text", "title", "later text", "amendment", "reason", "value", "condition", "remark",
)  # fmt: skip
"""Where canaries stand that the hospital then holds."""

STRAY = (
    "unknown member", "malformed body", "path", "query", "search", "looked-up identifier", "bad resource",
    "text while a chaincode is down", "text that is refused", "text while rows are refused",
)  # fmt: skip
"""Where canaries stand that nobody should hold, or that go in while something fails."""


@dataclass
class Told:
    """What was put where, and every answer that anybody but A's own people had."""

    canaries: dict[str, Canary]
    answers: Contents = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    shared: bytes = b""

    def text(self, place: str) -> str:
        return self.canaries[place].text

    @property
    def search(self) -> Search:
        return Search(self.canaries.values())


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="told")
async def _told(stack: Stack, cast: Cast) -> Told:
    told = Told({place: Canary.new(place) for place in (*CONTENT, *STRAY)})
    steps = await Steps.begin(stack, cast, notes=0, **_demographics(told))
    await _add_notes(steps, told)
    await _share(steps, told)
    await _go_wrong(steps, told)
    await _fail(steps, told)
    for organization in ("a", "b"):
        await stack.wait_for_rows(organization)
    people = [*vars(cast).values(), steps.patient]
    told.tokens = [await stack.token(one.subject, one.organization) for one in people]
    return told


def _demographics(told: Told) -> dict[str, Any]:
    return {
        "identifier": [{"system": SYSTEM, "value": told.text("identifier")}],
        "name": [{"family": told.text("family name"), "given": [told.text("given name")]}],
        "telecom": [{"system": "phone", "value": told.text("telephone")}],
        "address": [{"line": [told.text("street")], "city": "Lyon"}],
    }


async def _add_notes(steps: Steps, told: Told) -> None:
    """A typed one, one of resources, an amendment, and one that is imported."""
    note = {"text": told.text("text"), "title": told.text("title")}
    first = await _note(steps, note)
    await _note(steps, _visit(told, "1", "reason", "value"))
    await _note(steps, {"amends": first["noteId"], "text": told.text("amendment")})
    path = f"/emrs/{steps.patient.emr_id}/imports"
    visit = _visit(told, "2", "condition", "remark")
    accepted = (await steps.stack.call(steps.cast.physician, "records", "POST", path, visit)).required()

    async def ended() -> bool:
        path = f"/imports/{accepted['importId']}"
        job = (await steps.stack.call(steps.cast.physician, "records", "GET", path)).required()
        return bool(job["state"] == "done")

    await steps.stack.until(ended, "the import ends")
    steps.version += 1


def _visit(told: Told, identifier: str, reason: str, value: str) -> dict[str, Any]:
    visit = encounter(
        identifier=[{"system": "urn:visits", "value": identifier}], reasonCode=[{"text": told.text(reason)}]
    )
    seen = observation("urn:x:e1", note=[{"text": told.text(value)}])
    return bundle({"urn:x:e1": visit, "urn:x:o1": seen})


async def _note(steps: Steps, body: dict[str, Any]) -> dict[str, Any]:
    path = f"/emrs/{steps.patient.emr_id}/notes"
    added = (await steps.stack.call(steps.cast.physician, "records", "POST", path, body)).required()
    steps.version += 1
    return added


async def _share(steps: Steps, told: Told) -> None:
    """B is refused, asks, is let in, reads; a later note stays A's."""
    told.answers.append(("refused disclosure", _bytes((await steps.disclose()).body)))
    told.answers.append(("request", _bytes((await steps.request()).required())))
    await steps.share()
    told.answers.append(("disclosure", _bytes((await steps.disclose()).required())))
    answer = await steps.shared_answer(await steps.receipt())
    assert answer.status_code == 200
    told.shared = answer.content
    await _note(steps, {"text": told.text("later text")})
    listed = await steps.stack.call(steps.cast.other_physician, "consent", "GET", "/sharings")
    told.answers.append(("B's sharings", _bytes(listed.required())))
    (await steps.remove()).required()
    told.answers.append(("refused after the end", _bytes((await steps.disclose()).body)))


async def _go_wrong(steps: Steps, told: Told) -> None:
    """Requests that are refused; what they are answered must not repeat them."""
    emr, physician = f"/emrs/{steps.patient.emr_id}", steps.cast.physician
    bad = bundle({"urn:x:e1": encounter(), "urn:x:o1": observation("urn:x:e1", told.text("bad resource"))})
    looked_up = {"identifier": {"system": SYSTEM, "value": told.text("looked-up identifier")}}
    search, refused = {"familyName": told.text("search")}, {"text": told.text("text that is refused")}
    requests: list[tuple[str, Actor, str, str, str, Any]] = [
        ("unknown member", physician, "records", "POST", f"{emr}/notes", {told.text("unknown member"): 1}),
        ("malformed body", physician, "records", "POST", f"{emr}/notes", told.text("malformed body").encode()),
        ("bad resource", physician, "records", "POST", f"{emr}/notes", bad),
        ("path", physician, "records", "GET", f"/emrs/{told.text('path')}", None),
        ("query", physician, "records", "GET", f"/emrs?patientId={told.text('query')}", None),
        ("search", physician, "records", "POST", "/emrs/search", search),
        ("lookup", steps.cast.healthcenter, "registration", "POST", "/patients/lookup", looked_up),
        (
            "refused",
            steps.cast.other_physician,
            "records",
            "POST",
            f"{emr}/notes",
            refused,
        ),
    ]
    for name, who, service, method, path, body in requests:
        answer = await steps.stack.call(who, service, method, path, body)
        assert name == "search" or answer.status >= 400, name
        told.answers.append((name, _bytes(answer.body) + str(answer.headers).encode()))


async def _fail(steps: Steps, told: Told) -> None:
    """Faults with content in hand: what programs and servers then log is the likeliest of leaks."""
    stack = steps.stack
    async with stack.stopped("chaincode-b"):
        answer = await steps.post_note(told.text("text while a chaincode is down"))
        assert answer.status == 503
        told.answers.append(("a chaincode is down", _bytes(answer.body)))
    async with rows_refused(stack):
        await _note(steps, {"text": told.text("text while rows are refused")})
        await stack.until(lambda: _mentions(stack, "postgres", "no_more_notes"), "Postgres refuses the row")
        await stack.until(lambda: _is_parked(stack, steps.patient), "the EMR is parked")
    await stack.emr("indexer", "replay", "--org", "a")


@asynccontextmanager
async def rows_refused(stack: Stack) -> AsyncIterator[None]:
    """A constraint of the server refuses further rows of notes in A's read model."""
    async with sinks.as_superuser(stack, "a") as connection:
        await connection.execute("alter table care.note add constraint no_more_notes check (false) not valid")
        try:
            yield
        finally:
            await connection.execute("alter table care.note drop constraint no_more_notes")


async def _is_parked(stack: Stack, patient: Actor) -> bool:
    async with sinks.as_superuser(stack, "a") as connection:
        return bool(
            await connection.fetchval("select exists(select from care.parked where subject = $1)", patient.emr_id)
        )


async def _mentions(stack: Stack, process: str, word: str) -> bool:
    return word in stack.log(process).read_text(encoding="utf-8", errors="replace")


def _bytes(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


# what is searched

Sink = Callable[[Stack, Told], Awaitable[Contents]]


async def _logs(stack: Stack, _: Told) -> Contents:
    return sinks.files(stack.home.logs)


async def _topics(stack: Stack, _: Told) -> Contents:
    return await sinks.topics(stack)


async def _answers(stack: Stack, told: Told) -> Contents:
    return told.answers + await sinks.metrics(stack)


async def _ledger_of_a(stack: Stack, _: Told) -> Contents:
    return sinks.ledger_folder(stack, "HospitalA")


async def _ledger_of_b(stack: Stack, _: Told) -> Contents:
    return sinks.ledger_folder(stack, "HospitalB")


async def _orderer(stack: Stack, _: Told) -> Contents:
    return sinks.ledger_folder(stack, "orderer")


async def _tables_of_a(stack: Stack, _: Told) -> Contents:
    return await sinks.tables(stack, "a", but=("care",))


async def _tables_of_b(stack: Stack, _: Told) -> Contents:
    return await sinks.tables(stack, "b")


async def _other_files(stack: Stack, _: Told) -> Contents:
    return sinks.other_files(stack)


async def _traces(stack: Stack, _: Told) -> Contents:
    return stack.collector.contents


SINKS: dict[str, Sink] = {
    "logs": _logs,
    "traces": _traces,
    "topics": _topics,
    "answers": _answers,
    "A's ledger folder": _ledger_of_a,
    "B's ledger folder": _ledger_of_b,
    "the orderer's folder": _orderer,
    "A's tables": _tables_of_a,
    "B's tables": _tables_of_b,
    "other files": _other_files,
}


@pytest.mark.parametrize("sink", SINKS)
async def test_no_clinical_content_is_found_in(stack: Stack, told: Told, sink: str) -> None:
    contents = await SINKS[sink](stack, told)
    assert sum(len(content) for _, content in contents) > 1000
    assert told.search.in_all(contents) == []


@pytest.mark.parametrize("sink", ["logs", "traces", "topics", "answers", "A's tables", "B's tables"])
async def test_no_token_is_found_in(stack: Stack, told: Told, sink: str) -> None:
    contents = await SINKS[sink](stack, told)
    assert [where for where, content in contents for token in told.tokens if token.encode() in content] == []


async def test_the_owners_care_schema_has_all_of_it(stack: Stack, told: Told) -> None:
    """Without this the search could pass because nothing was ever written."""

    async def has_all() -> bool:
        contents = await sinks.tables(stack, "a", but=("hospital", "analytics"))
        seen = {sighting.place for sighting in told.search.in_all(contents)}
        return seen == {*CONTENT, "text while rows are refused"}

    await stack.until(has_all, "the owner's rows hold all content, what was parked too")


async def test_bs_physician_was_answered_what_was_shared_and_nothing_later(told: Told) -> None:
    seen = {sighting.place for sighting in told.search.in_all([("answer", told.shared)])}
    assert seen == set(CONTENT) - {"later text"}


# what is planted is found

Plant = Callable[[Stack, Told, bytes], Any]


@asynccontextmanager
async def _in_logs(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
    path = stack.home.logs / "planted.log"
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink()


@asynccontextmanager
async def _in_a_topic(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
    """Compressed, as a producer may."""
    kafka = Kafka(stack.home, stack.system.ports)
    await kafka.make_topics([NewTopic("planted", 1, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, compression_type="gzip", acks="all")
    await producer.start()
    try:
        await producer.send_and_wait("planted", content)
        yield
    finally:
        await producer.stop()
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics(["planted"])
        await admin.close()


@asynccontextmanager
async def _in_an_answer(_: Stack, told: Told, content: bytes) -> AsyncIterator[None]:
    told.answers.append(("planted", content))
    try:
        yield
    finally:
        told.answers.pop()


def _in_a_ledger(name: str) -> Plant:
    @asynccontextmanager
    async def plant(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
        """In a value of many pages."""
        path = sinks.ledger_path(stack, name) / "planted.db"
        with closing(sqlite3.connect(path)) as database:
            database.execute("create table planted (value blob)")
            database.execute("insert into planted values (?)", (bytes(4000) + content + bytes(9000),))
            database.commit()
        try:
            yield
        finally:
            path.unlink()

    return plant


def _in_tables(organization: str, schema: str) -> Plant:
    @asynccontextmanager
    async def plant(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
        async with sinks.as_superuser(stack, organization) as connection:
            await connection.execute(f"create table {schema}.planted (value text)")
            try:
                await connection.execute(f"insert into {schema}.planted values ($1)", content.decode())
                yield
            finally:
                await connection.execute(f"drop table {schema}.planted")

    return plant


@asynccontextmanager
async def _in_another_file(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
    path = stack.home.network / "planted"
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink()


@asynccontextmanager
async def _in_a_trace(stack: Stack, _: Told, content: bytes) -> AsyncIterator[None]:
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(f"{stack.collector.url}/planted", content=content)
    yield


PLANTS: dict[str, Plant] = {
    "logs": _in_logs,
    "traces": _in_a_trace,
    "topics": _in_a_topic,
    "answers": _in_an_answer,
    "A's ledger folder": _in_a_ledger("HospitalA"),
    "B's ledger folder": _in_a_ledger("HospitalB"),
    "the orderer's folder": _in_a_ledger("orderer"),
    "A's tables": _in_tables("a", "hospital"),
    "B's tables": _in_tables("b", "care"),
    "other files": _in_another_file,
}


@pytest.mark.parametrize("sink", SINKS)
async def test_what_is_planted_is_found_in(stack: Stack, told: Told, sink: str) -> None:
    """One canary a form, all in one place."""
    planted = {name: Canary.new(name) for name in forms("")}
    content = b"\n...".join(b"x" + forms(one.text)[name] + b"y" for name, one in planted.items())
    async with PLANTS[sink](stack, told, content):
        sightings = Search(planted.values()).in_all(await SINKS[sink](stack, told))
    assert {sighting.place for sighting in sightings if sighting.place == sighting.form} == set(planted)
    assert all("planted" in sighting.where for sighting in sightings)


async def test_bytes_in_tables_are_read_as_well(stack: Stack, told: Told) -> None:
    """As hex, which is a form that is searched for."""
    canary = Canary.new("bytes")
    async with sinks.as_superuser(stack, "a") as connection:
        await connection.execute("create table hospital.planted (value bytea)")
        try:
            await connection.execute("insert into hospital.planted values ($1)", b"?" + canary.text.encode())
            sightings = Search([canary]).in_all(await SINKS["A's tables"](stack, told))
        finally:
            await connection.execute("drop table hospital.planted")
    assert "hex" in {sighting.form for sighting in sightings}

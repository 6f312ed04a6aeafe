"""Notes a second, and milliseconds to commit and to the row, through the HTTP API of a whole system of its own.

    python -m benchmarks.notes [--clients 32] [--seconds 15]

Each client is a physician who posts one note after the other to a patient of their own. Typed notes are a line of text;
visits are FHIR bundles of the size that is usual (the median of the published samples is 8.5 KB). "To the row" is the
time from the API's answer until the note can be selected in Postgres. Nothing is asserted: the aims stand beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
import psutil
from emr_deploy.callers import Callers
from emr_deploy.system import System
from emr_network.enrolment import ADMIN

from benchmarks.whole_system import whole_system

ORGANIZATION = "a"
SINGLE_NOTES = 40
WARM_UP_NOTES = 5
POLL_SECONDS = 0.002
ROW_SECONDS = 30.0
MIB = 1024 * 1024

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
MakeNote = Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class Client:
    physician: str
    emr_id: str


@dataclass
class Measured:
    """Seconds; `failures` counts answers other than 201, by code."""

    commits: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    took: float = 0.0
    processor: dict[str, float] = field(default_factory=dict)
    """Processor seconds by process."""

    @property
    def rate(self) -> float:
        return len(self.commits) / self.took if self.took else 0.0


@dataclass
class Bench:
    """A running system and its clients."""

    system: System
    callers: Callers
    rows: Connection
    clients: list[Client] = field(default_factory=list)
    _posted: int = 0

    async def enrol(self, count: int) -> None:
        """`count` physicians, each with a patient."""
        await self._staff("healthcenter", "healthcenter")
        self.clients = list(await asyncio.gather(*(self._client(number) for number in range(count))))

    async def _staff(self, subject: str, role: str) -> None:
        body = {"subject": subject, "role": role}
        (await self.callers.call(ORGANIZATION, ADMIN, "registration", "POST", "/staff", body)).required()

    async def _client(self, number: int) -> Client:
        await self._staff(f"physician-{number}", "physician")
        identifier = {"system": "http://hospital.smarthealthit.org", "value": secrets.token_hex(8)}
        patient = {"resourceType": "Patient", "identifier": [identifier], "gender": "female"}
        body = {"subject": f"patient-{number}", "patient": patient}
        made = await self.callers.call(ORGANIZATION, "healthcenter", "registration", "POST", "/patients", body)
        return Client(f"physician-{number}", made.required()["emrId"])

    async def one_by_one(self, make: MakeNote, notes: int) -> Measured:
        """A single client, which waits for each note's row before it posts the next."""
        measured, client = Measured(), self.clients[0]
        with self._timed(measured):
            for _ in range(notes):
                version = await self._post(client, make, measured)
                if version is not None:
                    measured.rows.append(await self._until_row(client, version))
        return measured

    async def all_at_once(self, make: MakeNote, seconds: float) -> Measured:
        """All clients as fast as they are answered; the way to the row is sampled, one note at a time."""
        measured, newest = Measured(), [(self.clients[0], 0)]
        ends = time.perf_counter() + seconds

        async def work(client: Client) -> None:
            while time.perf_counter() < ends:
                version = await self._post(client, make, measured)
                if version is not None:
                    newest[0] = (client, version)

        async def sample() -> None:
            seen = newest[0]
            while time.perf_counter() < ends:
                if newest[0] == seen:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                seen = newest[0]
                measured.rows.append(await self._until_row(*seen))

        with self._timed(measured):
            await asyncio.gather(sample(), *(work(client) for client in self.clients))
        return measured

    @contextmanager
    def _timed(self, measured: Measured) -> Iterator[None]:
        started, before = time.perf_counter(), self._processor_seconds()
        yield
        measured.took = time.perf_counter() - started
        measured.processor = {name: used - before[name] for name, used in self._processor_seconds().items()}

    async def _post(self, client: Client, make: MakeNote, measured: Measured) -> int | None:
        self._posted += 1
        body, path = make(self._posted), f"/emrs/{client.emr_id}/notes"
        started = time.perf_counter()
        answer = await self.callers.call(ORGANIZATION, client.physician, "records", "POST", path, body)
        if answer.status != 201:
            code = answer.code or str(answer.status)
            measured.failures[code] = measured.failures.get(code, 0) + 1
            return None
        measured.commits.append(time.perf_counter() - started)
        return int(answer.body["version"])

    async def _until_row(self, client: Client, version: int) -> float:
        """Seconds until the note can be selected, at most 30."""
        query = "select 1 from care.note where emr_id = $1 and version = $2 and content is not null"
        started = time.perf_counter()
        while await self.rows.fetchval(query, client.emr_id, version) is None:
            if time.perf_counter() - started > ROW_SECONDS:
                break
            await asyncio.sleep(POLL_SECONDS)
        return time.perf_counter() - started

    def memory(self) -> list[tuple[str, float]]:
        """Bytes by process, children included, what several share counted once."""
        return [(name, sum(_of(one, _memory) for one in family)) for name, family in self._families().items()]

    def _processor_seconds(self) -> dict[str, float]:
        families = {**self._families(), "this benchmark": [psutil.Process()]}
        return {name: sum(_of(one, _processor) for one in family) for name, family in families.items()}

    def _families(self) -> dict[str, list[psutil.Process]]:
        """Each supervised process with its children."""
        running = {one.name: psutil.Process(one.pid) for one in self.system.supervisor.processes() if one.is_running}
        return {name: [one, *one.children(recursive=True)] for name, one in running.items()}


def _of(process: psutil.Process, measure: Callable[[psutil.Process], float]) -> float:
    """Children of Postgres come and go."""
    try:
        return measure(process)
    except psutil.NoSuchProcess:
        return 0.0


def _memory(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss)


def _processor(process: psutil.Process) -> float:
    """With the children that have ended: user and system time of both."""
    return float(sum(process.cpu_times()[:4]))


def typed_note(number: int) -> dict[str, Any]:
    return {"text": f"Visit {number}: blood pressure is well controlled, treatment goes on unchanged."}


def visit(number: int) -> dict[str, Any]:
    """A finished Encounter with observations, about as large as most are."""
    url = "urn:uuid:encounter"
    resource = {
        "resourceType": "Encounter",
        "identifier": [{"system": "urn:bench", "value": str(number)}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "period": {"start": "2026-03-01T10:00:00Z", "end": "2026-03-01T10:20:00Z"},
    }
    entries = [{"fullUrl": url, "resource": resource}]
    entries += [{"fullUrl": f"urn:uuid:o{place}", "resource": _observation(url, place)} for place in range(16)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _observation(encounter: str, place: int) -> dict[str, Any]:
    unit = "http://unitsofmeasure.org"
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://hl7.org/fhir/observation-category", "code": "laboratory"}]}],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": f"{2000 + place}-1", "display": "A laboratory test"}]
        },
        "encounter": {"reference": encounter},
        "effectiveDateTime": "2026-03-01T10:05:00Z",
        "valueQuantity": {"value": 4 + place, "unit": "mmol/L", "system": unit, "code": "mmol/L"},
    }


async def measure(clients: int, seconds: float) -> None:
    async with _running() as bench:
        print(f"enrolling {clients} physicians with a patient each …", flush=True)
        await bench.enrol(clients)
        for make in (typed_note, visit):
            await bench.one_by_one(make, WARM_UP_NOTES)
        print("measuring …", flush=True)
        runs = {
            "typed, one client": await bench.one_by_one(typed_note, SINGLE_NOTES),
            "visit, one client": await bench.one_by_one(visit, SINGLE_NOTES),
            f"typed, {clients} clients": await bench.all_at_once(typed_note, seconds),
            f"visit, {clients} clients": await bench.all_at_once(visit, seconds),
        }
        _report(runs, bench.memory())


@asynccontextmanager
async def _running() -> AsyncIterator[Bench]:
    async with whole_system() as (system, callers):
        rows = await asyncpg.connect(system.home.secret(ORGANIZATION, "database-url").read_text())
        try:
            yield Bench(system, callers, rows)
        finally:
            await rows.close()


def _report(runs: dict[str, Measured], memory: Sequence[tuple[str, float]]) -> None:
    print(f"\nnotes over HTTP on devnet, {psutil.cpu_count()} cores; a visit is {len(json.dumps(visit(1))) // 1000} KB")
    head = ("notes", "notes/s", "commit ms p50", "p95", "row ms p50", "p95", "refused")
    print(f"{'':22}" + "".join(f"{title:>15}" for title in head))
    for name, run in runs.items():
        cells = (
            f"{len(run.commits)}",
            f"{run.rate:.1f}",
            *_milliseconds(run.commits),
            *_milliseconds(run.rows),
            ", ".join(f"{code} {count}" for code, count in run.failures.items()) or "0",
        )
        print(f"{name:22}" + "".join(f"{cell:>15}" for cell in cells))
    _report_processors(runs)
    total = sum(size for _, size in memory)
    largest = sorted(memory, key=lambda one: -one[1])[:5]
    print(f"\nmemory of all {len(memory)} processes: {total / MIB:.0f} MiB; the largest: ", end="")
    print(", ".join(f"{name} {size / MIB:.0f}" for name, size in largest))
    print("\naims: 80 notes/s with 32 clients; one note committed within 200 ms, its row 100 ms after; under 3072 MiB")


def _report_processors(runs: dict[str, Measured]) -> None:
    """What does not depend on what else the machine does."""
    print("\nprocessor milliseconds a note")
    for name, run in runs.items():
        each = {process: used * 1000 / max(len(run.commits), 1) for process, used in run.processor.items()}
        largest = sorted(each.items(), key=lambda one: -one[1])[:8]
        print(
            f"{name:22}{sum(each.values()):15.1f}   " + ", ".join(f"{process} {used:.1f}" for process, used in largest)
        )


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str]:
    """Median and 95th percentile."""
    if len(seconds) < 2:
        return "-", "-"
    return f"{statistics.median(seconds) * 1000:.0f}", f"{statistics.quantiles(seconds, n=20)[-1] * 1000:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Notes a second through the HTTP API, and how long each takes.")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long all clients post at once")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.clients, arguments.seconds))


if __name__ == "__main__":
    main()

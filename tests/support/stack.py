"""The whole system, started once for all tests that need it: own EMR_HOME, free ports, real processes.

A test module takes the session fixture `stack` (see tests/conftest.py) and is marked `stack`. Tests share the ledger
and the databases: each makes its own people and patients (`staff`, `patient`), whose names never repeat.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from emr_deploy.administration.revoking import Revoking
from emr_deploy.bundles import PatientBundle, make_histories
from emr_deploy.callers import Answer, Callers
from emr_deploy.process import Process
from emr_deploy.programs import TELEMETRY, WEBHOOK_CAS, WEBHOOK_NETWORKS
from emr_deploy.readiness import Readiness
from emr_deploy.status import as_of
from emr_deploy.system import System
from emr_network.devnet import DevnetControl
from emr_network.enrolment import ADMIN
from emr_network.home import TOPOLOGY, Home
from emr_network.organizations import settle
from emr_network.topology import Ledger, Organization
from hlf.identity import SigningIdentity
from support.otlp import OtlpReceiver, otlp_receiver
from support.processes import standing_still
from support.webhook_receiver import Receiver, webhook_receiver

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Actor:
    """Somebody of a hospital: the subject of their token, and what enrolment answered."""

    organization: str
    subject: str
    role: str
    enrolment_id: str
    patient_id: str = ""
    emr_id: str = ""


class Stack:
    """The running system. `a` and `b` are the hospitals' short names."""

    def __init__(self, system: System, callers: Callers, collector: OtlpReceiver, his: Receiver) -> None:
        """`his`: a hospital's own system, which webhooks may be posted to."""
        self.system = system
        self.collector = collector
        self.his = his
        self.home = system.home
        self.ledger = system.topology.ledger
        self._callers = callers
        self._histories = 0

    # hospitals and addresses

    def hospital(self, organization: str) -> Organization:
        return self.system.topology.organization(organization)

    def msp_id(self, organization: str) -> str:
        return self.hospital(organization).msp_id

    def url(self, service: str, organization: str) -> str:
        """The base of a service's API, such as `http://127.0.0.1:40123`, without `/v1`."""
        return self._callers.url(service, organization)

    def process(self, name: str) -> Process:
        return next(one for one in self.system.processes if one.name == name)

    def log(self, process: str) -> Path:
        return self.home.logs / f"{process}.log"

    @property
    def devnet(self) -> DevnetControl:
        """Where the ledger is devnet."""
        return DevnetControl.at(self.system.ports)

    @property
    def ledger_process(self) -> str:
        """The process through which hospital A sees the ledger."""
        return "devnet" if self.ledger == "devnet" else "peer-a"

    @property
    def peer_processes(self) -> list[str]:
        """Every process that holds a ledger."""
        return ["devnet"] if self.ledger == "devnet" else [f"peer-{one.name}" for one in self.organizations]

    @property
    def organizations(self) -> Sequence[Organization]:
        return self.system.topology.organizations

    # people

    async def token(self, subject: str, organization: str) -> str:
        return await self._callers.token(organization, subject)

    async def staff(self, organization: str, role: str) -> Actor:
        """A new member of staff: role healthcenter, physician or admin."""
        subject = f"{role}-{secrets.token_hex(4)}"
        body = {"subject": subject, "role": role}
        made = (await self._callers.call(organization, ADMIN, "registration", "POST", "/staff", body)).required()
        return Actor(organization, subject, role, made["enrolmentId"])

    async def patient(self, healthcenter: Actor, resource: dict[str, Any] | None = None) -> Actor:
        """A new patient of the healthcenter's hospital; `resource` is the FHIR Patient, a made-up one without it."""
        subject = f"patient-{secrets.token_hex(4)}"
        body = {"subject": subject, "patient": resource or self.patient_resource()}
        made = (await self.call(healthcenter, "registration", "POST", "/patients", body)).required()
        return Actor(
            healthcenter.organization, subject, "patient", made["enrolmentId"], made["patientId"], made["emrId"]
        )

    def patient_resource(self, **members: Any) -> dict[str, Any]:
        """A FHIR Patient whose identifier no other has."""
        return {
            "resourceType": "Patient",
            "identifier": [{"system": "http://hospital.smarthealthit.org", "value": secrets.token_hex(8)}],
            "name": [{"family": "Moreno", "given": ["Ana"]}],
            "gender": "female",
            "birthDate": "1975-04-02",
            **members,
        }

    def history(self) -> PatientBundle:
        """A patient's bundle with several visits, another one at every call."""
        self._histories += 1
        seed = int.from_bytes(secrets.token_bytes(3)) + self._histories
        return next(make_histories(1, seed=seed))

    def admin_identity(self, organization: str) -> SigningIdentity:
        """The hospital's administrator, to call the chaincode without any service."""
        from emr_network.enrolment import Enrolment

        enrolment = Enrolment(self.home, self.hospital(organization), self.system.ports)
        return SigningIdentity.from_msp_dir(enrolment.admin_folder, self.msp_id(organization))

    async def publish_revocations(self, organization: str) -> None:
        """Tells the channel what the hospital's CA has revoked, as `emr staff revoke` does."""
        await self._revoking(organization).publish()

    async def revoke_on_the_network(self, actor: Actor) -> None:
        """As `emr network revoke` does: at the CA and on the channel, and not in the hospital's wallet."""
        await self._revoking(actor.organization).revoke(actor.enrolment_id)

    def _revoking(self, organization: str) -> Revoking:
        system = self.system
        return Revoking(self.home, system.topology, self.hospital(organization), system.ports, lambda _: None)

    # calls

    async def call(
        self,
        actor: Actor,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
    ) -> Answer:
        """Calls `path` below `/v1` at the actor's own hospital, with their token and a fresh Idempotency-Key."""
        return await self._callers.call(
            actor.organization, actor.subject, service, method, path, body, headers=headers, params=params
        )

    async def call_as(
        self, organization: str, subject: str, service: str, method: str, path: str, body: Any = None
    ) -> Answer:
        """The same for a subject that is no Actor, such as the administrator."""
        return await self._callers.call(organization, subject, service, method, path, body)

    async def add_note(self, physician: Actor, emr_id: str, text: str = "Seen today.") -> dict[str, Any]:
        path = f"/emrs/{emr_id}/notes"
        return (await self.call(physician, "records", "POST", path, {"text": text})).required()

    @asynccontextmanager
    async def load(self, patients: list[Actor], physicians: dict[str, Actor]) -> AsyncIterator[list[Answer]]:
        """Notes of each patient, one after the other, at their hospital, until the block ends."""
        answers: list[Answer] = []
        stopped = asyncio.Event()

        async def write(patient: Actor) -> None:
            number = 0
            while not stopped.is_set():
                number += 1
                path = f"/emrs/{patient.emr_id}/notes"
                body = {"text": f"Note {number}."}
                answers.append(await self.call(physicians[patient.organization], "records", "POST", path, body))

        async with asyncio.TaskGroup() as tasks:
            for patient in patients:
                tasks.create_task(write(patient))
            try:
                yield answers
                await asyncio.sleep(1)
            finally:
                stopped.set()

    # the operator

    async def emr(self, *arguments: str) -> str:
        """What a command prints. AssertionError unless it succeeds."""
        environment = {**os.environ, "EMR_HOME": str(self.home.root)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "emr_deploy.cli",
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    # stores

    async def sql(self, organization: str, query: str, *arguments: Any, analyst: bool = False) -> list[dict[str, Any]]:
        """Rows of a hospital's database, as its services' role or as its analyst."""
        url = self.home.secret(organization, "analyst-url" if analyst else "database-url").read_text()
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    @property
    def height(self) -> int:
        """Number of blocks."""
        return max(self.heights().values())

    def heights(self) -> dict[str, int]:
        """The number of blocks that each hospital's peer has, by MSP id."""
        if self.ledger == "devnet":
            return {one["msp_id"]: int(one["height"]) for one in self.devnet.status()["organizations"]}
        return {one.msp_id: self._official_height(one) for one in self.organizations}

    def _official_height(self, organization: Organization) -> int:
        address = self.system.ports.address(f"peer-{organization.name}-operations")
        metrics = httpx.get(f"http://{address}/metrics", trust_env=False).text
        found = re.search(
            rf'^ledger_blockchain_height{{channel="{self.system.topology.channel}"}} (\S+)', metrics, re.M
        )
        assert found is not None
        return int(float(found[1]))

    async def as_of(self, organization: str) -> int | None:
        return await as_of(self.system, organization)

    async def wait_for_rows(self, organization: str, block: int | None = None, seconds: float = WAIT_SECONDS) -> None:
        """Until the hospital's rows are complete up to `block`, or up to the newest."""
        wanted = self.height - 1 if block is None else block

        async def reached() -> bool:
            position = await self.as_of(organization)
            return position is not None and position >= wanted

        await self.until(reached, f"rows of {organization} up to block {wanted}", seconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, seconds: float = WAIT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            await asyncio.sleep(POLL_SECONDS)

    # processes

    async def stop(self, *names: str) -> None:
        """Ends processes, such as `projector-a`, until `start`."""
        await asyncio.to_thread(self.system.supervisor.stop, list(names))

    async def start(self, *names: str) -> None:
        """Starts processes and waits until they are ready."""
        await asyncio.to_thread(self.system.supervisor.launch, list(names))
        await self.ready(*names)

    async def ready(self, *names: str) -> None:
        async with Readiness(self.home, self.system.ports) as readiness:
            await readiness.wait([self.process(name) for name in names], lambda _: None)
        if self.ledger == "fabric":
            await settle(self.home, self.system.topology, self.system.ports)

    async def kill(self, name: str) -> int:
        """kill -9; the supervisor starts it again. Returns the pid that was killed once another one runs."""
        killed = self.system.supervisor.process(name).pid
        os.kill(killed, signal.SIGKILL)

        async def replaced() -> bool:
            state = await asyncio.to_thread(self.system.supervisor.process, name)
            return state.is_running and state.pid != killed

        await self.until(replaced, f"{name} is started again")
        return killed

    @asynccontextmanager
    async def stopped(self, *names: str) -> AsyncIterator[None]:
        """Processes are down within the block and ready again after it."""
        await self.stop(*names)
        try:
            yield
        finally:
            await self.start(*names)

    @asynccontextmanager
    async def hanging(self, *names: str) -> AsyncIterator[None]:
        """Processes stand still within the block, their connections open, and know nothing of it after it."""
        with standing_still(*(self.system.supervisor.process(name).pid for name in names)):
            yield

    @asynccontextmanager
    async def peer_stopped(self, organization: str) -> AsyncIterator[None]:
        """A hospital's peer alone is down within the block; its chaincode and services run on."""
        hospital = self.hospital(organization)
        await asyncio.to_thread(self.system.network.stop, hospital)
        try:
            yield
        finally:
            await self.system.start_peers(hospital)


@asynccontextmanager
async def running_stack(
    root: Path, ledger: Ledger = "devnet", *, topology: Path = TOPOLOGY, is_traced: bool = True
) -> AsyncIterator[Stack]:
    """A new system in `root`, taken down at the end; its logs stay. Raises ProgramsMissing."""
    system = System(Home(root), lambda _: None)
    system.prepare(free_ports=True, topology=topology, ledger=ledger)
    async with running_again(root, is_traced=is_traced) as stack:
        yield stack


@asynccontextmanager
async def running_again(root: Path, *, is_traced: bool = True) -> AsyncIterator[Stack]:
    """The system that is prepared in `root`."""
    lines: list[str] = []
    system = System(Home(root), lines.append)
    with (
        otlp_receiver() as collector,
        webhook_receiver(root) as his,
        pytest.MonkeyPatch.context() as environment,
    ):
        if is_traced:
            environment.setenv(TELEMETRY, collector.url)
        environment.setenv(WEBHOOK_NETWORKS, "127.0.0.1/32,::1/128")
        environment.setenv(WEBHOOK_CAS, str(his.ca_file))
        try:
            await system.up()
            async with Callers(system.home, system.ports) as callers:
                yield Stack(system, callers, collector, his)
        finally:
            (root / "start.json").write_text(json.dumps(lines, indent=1), encoding="utf-8")
            await asyncio.to_thread(system.down)

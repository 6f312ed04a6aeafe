"""Notes on official Fabric, as the services write them: how cost grows with the number of hospitals.

    python -m benchmarks.ledger [--notes 400] [--clients 16] [--hospitals 2 3 4] [--endorsement all majority]

For each network: notes a second with CLIENTS open at once, each client writing to an EMR of its own; then the time to
commit at half of that rate; the CPU of each kind of process a note; how often a note was proposed until every
hospital endorsed it, having the block before; and how many notes shared a block. What processes use at rest, in the
time that a note takes at that rate, is told beside. Prints rows of a Markdown table.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from emr_common.endorsers import EndorserChoice
from emr_deploy.system import System
from emr_model.ledger.functions import Function, Role
from emr_network.enrolment import Enrolment
from emr_network.home import TOPOLOGY, Home
from emr_network.organizations import endpoints
from emr_network.topology import load
from emr_network.waiting import eventually
from hlf.certs import public_key_to_der
from hlf.commits import CommitTracker
from hlf.crypto import sha256
from hlf.errors import EndorseError, HlfError
from hlf.gateway import Gateway, Timeouts, Transaction
from hlf.identity import SigningIdentity

HEADING = """
| endorsement | hospitals | notes/s | ms at half load: median, 95 % | CPU ms: peers, orderer, chaincodes, client | of them at rest | proposed | a block |
|---|---|---|---|---|---|---|---|"""  # noqa: E501
COMMIT_SECONDS = 60.0
NOTE_BYTES = 2000
REST_SECONDS = 10.0
PATIENT = Timeouts(evaluate=30, endorse=60, submit=30)
KINDS = ("peer", "orderer", "chaincode")


@dataclass
class Writer:
    """One EMR of hospital A, and who writes its notes."""

    physician: SigningIdentity
    emr_id: str
    version: int = 0


def _is_behind(error: HlfError) -> bool:
    """Another hospital's peer does not have the block yet in which the EMR was written last."""
    return isinstance(error, EndorseError)


@dataclass
class Channel:
    gateway: Gateway
    tracker: CommitTracker
    choice: EndorserChoice
    name: str
    chaincode: str
    proposed: int = 0

    async def submit(self, who: SigningIdentity, function: Function, *arguments: str, **transient: bytes) -> None:
        endorsers = await self.choice.of(function, arguments)
        contract = self.gateway.contract(who, self.name, self.chaincode)
        proposal = contract.propose(
            function.wire_name, *arguments, transient=transient, endorsing_organizations=endorsers
        )

        async def endorse() -> Transaction:
            self.proposed += 1
            return await proposal.endorse()

        transaction = await eventually(endorse, _is_behind, seconds=20)
        pending = self.tracker.expect(transaction.transaction_id)
        await transaction.submit()
        commit = await pending.outcome(COMMIT_SECONDS)
        if not commit.is_valid:
            raise RuntimeError(commit.validation_name)

    async def add_note(self, writer: Writer) -> float:
        """Seconds until it was committed."""
        note, started = os.urandom(NOTE_BYTES), time.perf_counter()
        digest = sha256(note).hex()
        arguments = (writer.emr_id, str(writer.version), secrets.token_hex(16), "true", "c" * 64, digest)
        await self.submit(writer.physician, Function.ADD_EMR_NOTE, *arguments, note=note)
        writer.version += 1
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--notes", type=int, default=400)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--endorsement", nargs="+", choices=("all", "majority"), default=["all", "majority"])
    arguments = parser.parse_args()
    print(HEADING, flush=True)
    for endorsement in arguments.endorsement:
        for hospitals in arguments.hospitals:
            with tempfile.TemporaryDirectory(prefix="emr-bench-") as folder:
                row = asyncio.run(_measured(Path(folder), endorsement, hospitals, arguments.notes, arguments.clients))
            print(f"| {endorsement} | {hospitals} | {row} |", flush=True)


async def _measured(folder: Path, endorsement: str, hospitals: int, notes: int, clients: int) -> str:
    system = System(Home(folder / "home"), lambda _: None)
    system.prepare(free_ports=True, topology=_topology(folder, endorsement, hospitals), ledger="fabric")
    try:
        await system.network_up()
        async with _channel(system) as channel:
            writers = await _writers(system, channel, clients)
            await _full_load(channel, writers, 2 * clients)  # warms up
            idle = await _at_rest(system)
            before, started = _cpu(system), time.perf_counter()
            proposed, height = channel.proposed, channel.tracker.height
            await _full_load(channel, writers, notes)
            rate, after = notes / (time.perf_counter() - started), _cpu(system)
            proposed, blocks = channel.proposed - proposed, channel.tracker.height - height
            delays = sorted(await _half_load(channel, writers, rate / 2, notes // 2))
    finally:
        await asyncio.to_thread(system.down)
    cpu = ", ".join(f"{1000 * (after[kind] - before[kind]) / notes:.1f}" for kind in (*KINDS, "client"))
    rest = ", ".join(f"{1000 * idle[kind] / rate:.1f}" for kind in (*KINDS, "client"))
    late = delays[int(0.95 * len(delays))]
    times = f"{rate:.0f} | {1000 * statistics.median(delays):.0f}, {1000 * late:.0f}"
    return f"{times} | {cpu} | {rest} | {proposed / notes:.2f} | {notes / blocks:.1f}"


def _topology(folder: Path, endorsement: str, hospitals: int) -> Path:
    content = load(TOPOLOGY).model_dump(mode="json", by_alias=True)
    content["chaincode"]["endorsement"] = endorsement
    first, *_ = content["organizations"]
    content["organizations"] = []
    for number, letter in enumerate("abcdefgh"[:hospitals]):
        ports = {name: port + 1000 * number for name, port in first["ports"].items()}
        own = {"name": letter, "mspId": f"Hospital{letter.upper()}", "domain": f"{letter}.care.example"}
        content["organizations"].append({**first, **own, "ports": ports})
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@asynccontextmanager
async def _channel(system: System) -> AsyncIterator[Channel]:
    hospital, topology = system.topology.organizations[0], system.topology
    folder = Enrolment(system.home, hospital, system.ports).service_folder
    service = SigningIdentity.from_msp_dir(folder, hospital.msp_id)
    async with (
        Gateway(endpoints(system.home, hospital, system.ports), PATIENT) as gateway,
        CommitTracker(gateway, service, topology.channel) as tracker,
    ):
        choice = EndorserChoice(gateway, service, topology.channel, topology.chaincode.name)
        yield Channel(gateway, tracker, choice, topology.channel, topology.chaincode.name)


async def _writers(system: System, channel: Channel, count: int) -> list[Writer]:
    hospital = system.topology.organizations[0]
    enrolment = Enrolment(system.home, hospital, system.ports)
    registrar = SigningIdentity.from_msp_dir(enrolment.registrar_folder, hospital.msp_id)
    async with enrolment.client() as ca:
        people = {}
        for role in (Role.HEALTHCENTER, Role.PHYSICIAN):
            secret = await ca.register(registrar, f"bench-{role}", attributes={"emr.role": role.value})
            people[role] = (await ca.enroll(f"bench-{role}", secret)).signing_identity(hospital.msp_id)
    key = sha256(public_key_to_der(people[Role.PHYSICIAN].private_key.public_key())).hex()

    async def admit() -> Writer:
        emr_id, demographics = secrets.token_hex(16), os.urandom(500)
        arguments = (emr_id, secrets.token_hex(16), key, "c" * 64, sha256(demographics).hex())
        await channel.submit(people[Role.HEALTHCENTER], Function.CREATE_EMR, *arguments, demographics=demographics)
        return Writer(people[Role.PHYSICIAN], emr_id)

    return await asyncio.gather(*(admit() for _ in range(count)))


async def _full_load(channel: Channel, writers: list[Writer], notes: int) -> None:
    left = iter(range(notes))

    async def write(writer: Writer) -> None:
        for _ in left:
            await channel.add_note(writer)

    await asyncio.gather(*(write(writer) for writer in writers))


async def _half_load(channel: Channel, writers: list[Writer], rate: float, notes: int) -> list[float]:
    """Notes begun at an even rate, whatever those before them do; an EMR takes one at a time."""
    free: asyncio.Queue[Writer] = asyncio.Queue()
    for writer in writers:
        free.put_nowait(writer)

    async def write() -> float:
        writer, begun = await free.get(), time.perf_counter()
        try:
            await channel.add_note(writer)
        finally:
            free.put_nowait(writer)
        return time.perf_counter() - begun

    tasks = []
    for _ in range(notes):
        tasks.append(asyncio.create_task(write()))
        await asyncio.sleep(1 / rate)
    return await asyncio.gather(*tasks)


async def _at_rest(system: System) -> Mapping[str, float]:
    """CPU seconds a second while nothing is asked, by kind of process."""
    await asyncio.sleep(1)
    before, started = _cpu(system), time.perf_counter()
    await asyncio.sleep(REST_SECONDS)
    seconds, after = time.perf_counter() - started, _cpu(system)
    return {kind: (after[kind] - before[kind]) / seconds for kind in after}


def _cpu(system: System) -> Mapping[str, float]:
    """CPU seconds so far, by kind of process."""
    states = {one.name: one.pid for one in system.supervisor.processes() if one.is_running}
    spent: dict[str, float] = defaultdict(float)
    for process in system.processes:
        if process.service in KINDS and process.name in states:
            times = psutil.Process(states[process.name]).cpu_times()
            spent[process.service] += times.user + times.system
    own = psutil.Process().cpu_times()
    spent["client"] = own.user + own.system
    return spent


if __name__ == "__main__":
    main()

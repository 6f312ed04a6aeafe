"""Reads and notes through the API of records, next to a bare ASGI app and bare hlf calls, in turns in one run.

    python -m benchmarks.api [--rounds 5] [--requests 300] [--clients 8] [--memory 0] [--services records …]

Every kind is a server that stays up, asked over kept-alive connections by the same client; a first round does not
count. CPU is that of the server, of the network with its chaincodes, and of Postgres, a request. ``--memory 100000``
then sends each service, or those that are named, that many requests and prints its resident memory before, on the way
and afterwards; with ``--rounds 0`` nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from emr_network.material import peer_organization
from hlf.certs import private_key_to_pem
from support.ledger_access import CHAINCODE, CHANNEL, ledger_access
from support.ports import free_address
from support.stack import Actor, Stack, running_stack

from benchmarks.api.http import Connection, message
from benchmarks.load import cpu_seconds, memory_mb

READ, NOTE = "read an EMR", "add a note"
ASGI, BARE_READ, BARE_NOTE = "bare ASGI app", "bare hlf call, ReadEmr", "bare hlf write, AddEmrNote"
AIM, MOST_MIB = 0.7, 124
"""124 MiB are 130 MB."""
SERVICES = ("registration", "records", "consent", "indexer")
STEPS = 5
PHYSICIANS = 16
"""More than one, because a caller's requests are limited to 100 a second."""

Messages = Callable[[int, int], bytes]
"""The message of a client by its number, and which of its own it is."""


@dataclass(frozen=True)
class Kind:
    address: str
    server: int
    messages: Messages
    share: float = 1.0
    """Of the requests of a round that it gets."""


@dataclass
class Load:
    requests: int = 0
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def cpu_ms(self, group: str) -> float:
        return 1000 * self.cpu[group] / self.requests


async def main(rounds: int, requests: int, clients: int, memory: int, services: Sequence[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="emr-bench-"))
    async with running_stack(folder, is_traced=False) as stack, AsyncExitStack() as running:
        people = await _people(stack)
        bare = await running.enter_async_context(_bare(stack, people, folder))
        kinds = await _kinds(stack, people, bare, clients)
        groups = _groups(stack)
        loads = {name: Load() for name in kinds}
        for number in range(rounds + 1 if rounds else 0):
            for name, kind in kinds.items():
                count = max(clients, int(requests * kind.share))
                await _send(loads[name] if number else Load(), kind, groups, count, clients)
        if rounds:
            print(f"{rounds} rounds of {requests} requests, {clients} at once, load {os.getloadavg()[0]:.1f}\n")
            _report(loads)
        if memory:
            await _memory(stack, people, services, memory, clients)


@dataclass(frozen=True)
class People:
    """Physicians of A, their tokens, and a patient of A with one note."""

    healthcenter: Actor
    physicians: Sequence[Actor]
    tokens: Sequence[str]
    patient: Actor


async def _people(stack: Stack) -> People:
    healthcenter = await stack.staff("a", "healthcenter")
    physicians = [await stack.staff("a", "physician") for _ in range(PHYSICIANS)]
    patient = await stack.patient(healthcenter)
    await stack.add_note(physicians[0], patient.emr_id)
    tokens = [await stack.token(one.subject, "a") for one in physicians]
    return People(healthcenter, physicians, tokens, patient)


@asynccontextmanager
async def _bare(stack: Stack, people: People, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Address and process id of the bare server, which calls as the first physician."""
    async with ledger_access(stack) as ledger:
        signer = await ledger.signer(people.physicians[0])
    address = free_address()
    certificate = peer_organization(stack.home, stack.hospital("a")).tls_ca_certificate
    connection = {
        "port": int(address.rpartition(":")[2]),
        "address": stack.system.ports.address("peer-a"),
        "tlsCa": certificate.read_text(),
        "mspId": signer.msp_id,
        "certificate": signer.certificate_pem.decode(),
        "privateKey": private_key_to_pem(signer.private_key).decode(),
        "channel": CHANNEL,
        "chaincode": CHAINCODE,
        "endorsers": [one.msp_id for one in stack.organizations],
        "emrId": people.patient.emr_id,
    }
    path = folder / "connection.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(connection))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.api.bare", str(path))
    try:
        await _until_open(address)
        yield address, process.pid
    finally:
        process.terminate()
        await process.wait()


async def _until_open(address: str) -> None:
    while True:
        try:
            async with Connection.to(address):
                return
        except OSError:
            await asyncio.sleep(0.1)


async def _kinds(stack: Stack, people: People, bare: tuple[str, int], clients: int) -> Mapping[str, Kind]:
    address, pid = bare
    records, records_pid = stack.system.ports.address("records-a"), _pid(stack, "records-a")
    own = [(await stack.patient(people.healthcenter)).emr_id for _ in range(clients)]
    others = [(await stack.patient(people.healthcenter)).emr_id for _ in range(clients)]

    def read(client: int, number: int) -> bytes:
        return message("GET", f"/v1/emrs/{people.patient.emr_id}", _bearer(people, client + number))

    def note(client: int, number: int) -> bytes:
        headers = {**_bearer(people, client), "Idempotency-Key": secrets.token_hex(16)}
        return message("POST", f"/v1/emrs/{own[client]}/notes", headers, b'{"text":"Seen today."}')

    return {
        ASGI: Kind(address, pid, lambda *_: message("GET", "/nothing", {}), 4.0),
        BARE_READ: Kind(address, pid, lambda *_: message("GET", "/read", {})),
        READ: Kind(records, records_pid, read),
        BARE_NOTE: Kind(address, pid, lambda client, _: message("POST", f"/note/{others[client]}", {}), 0.3),
        NOTE: Kind(records, records_pid, note, 0.3),
    }


def _bearer(people: People, number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {people.tokens[number % PHYSICIANS]}"}


def _pid(stack: Stack, name: str) -> int:
    return int(stack.system.supervisor.process(name).pid)


def _groups(stack: Stack) -> Mapping[str, list[int]]:
    postgres = psutil.Process(_pid(stack, "postgres"))
    return {
        "network": [_pid(stack, name) for name in ("devnet", "chaincode-a", "chaincode-b")],
        "Postgres": [postgres.pid, *(one.pid for one in postgres.children(recursive=True))],
    }


async def _send(load: Load, kind: Kind, groups: Mapping[str, list[int]], count: int, clients: int) -> None:
    groups = {"server": [kind.server], **groups}
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection.to(kind.address)) for _ in range(clients)]
        before, began = _spent(groups), time.perf_counter()
        await asyncio.gather(
            *(_client(one, kind.messages, number, count // clients) for number, one in enumerate(connections))
        )
        load.seconds += time.perf_counter() - began
        load.requests += count // clients * clients
        for group, seconds in _spent(groups).items():
            load.cpu[group] = load.cpu.get(group, 0.0) + seconds - before[group]


async def _client(connection: Connection, messages: Messages, client: int, count: int) -> None:
    for number in range(count):
        status, body = await connection.send(messages(client, number))
        assert status in (200, 201), (status, body)


def _spent(groups: Mapping[str, list[int]]) -> dict[str, float]:
    return {group: sum(cpu_seconds(pid) for pid in pids if psutil.pid_exists(pid)) for group, pids in groups.items()}


def _report(loads: Mapping[str, Load]) -> None:
    print(f"{'':28} {'requests/s':>10} {'x bare':>8} {'CPU ms: server':>15} {'network':>8} {'Postgres':>9}")
    for name, load in loads.items():
        bare = {READ: loads[BARE_READ], NOTE: loads[BARE_NOTE]}.get(name)
        ratio = "" if bare is None else f"{load.rate / bare.rate:.2f}"
        cpu = f"{load.cpu_ms('server'):15.2f} {load.cpu_ms('network'):8.2f} {load.cpu_ms('Postgres'):9.2f}"
        print(f"{name:28} {load.rate:10.1f} {ratio:>8} {cpu}")
    print(f"reads: {loads[READ].rate / loads[BARE_READ].rate:.2f} x bare (aim: at least {AIM})")


async def _memory(stack: Stack, people: People, services: Sequence[str], count: int, clients: int) -> None:
    """Of every API, each asked for what it answers most."""
    paths = {
        "registration": "/v1/me",
        "records": f"/v1/emrs/{people.patient.emr_id}",
        "consent": "/v1/sharings",
        "indexer": "/v1/position",
    }
    admins = [await stack.token((await stack.staff("a", "admin")).subject, "a") for _ in range(PHYSICIANS)]
    print(f"\nMiB after so many requests, of {count}; aim: at most {MOST_MIB}, flat")
    for service in services:
        tokens = admins if service == "indexer" else people.tokens
        messages = [message("GET", paths[service], {"Authorization": f"Bearer {token}"}) for token in tokens]
        pid, address = _pid(stack, f"{service}-a"), stack.system.ports.address(f"{service}-a")
        sizes = [memory_mb(pid)]
        for _ in range(STEPS):
            await asyncio.gather(*(_patiently(address, messages, count // STEPS // clients) for _ in range(clients)))
            sizes.append(memory_mb(pid))
        print(f"{service:14}", *(f"{size:7.1f}" for size in sizes), flush=True)


async def _patiently(address: str, messages: Sequence[bytes], count: int) -> None:
    """Until so many are answered; a caller who is told to wait does."""
    async with Connection.to(address) as connection:
        while count:
            status, body = await connection.send(messages[count % len(messages)])
            assert status in (200, 429), (status, body)
            count -= status == 200
            if status == 429:
                await asyncio.sleep(0.2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300, help="of each kind in each round; of notes 0.3 of them")
    parser.add_argument("--clients", type=int, default=8, help="open at once")
    parser.add_argument("--memory", type=int, default=0, help="requests to each service before its memory is told")
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=SERVICES, help="whose memory is told")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    asyncio.run(main(given.rounds, given.requests, given.clients, given.memory, given.services))

"""Clients in processes of their own that send transactions on command, and what the work cost each process.

A client process gets one line `FIRST COUNT CLIENTS` on its standard input, sends COUNT transactions numbered from FIRST
with CLIENTS of them open at once, and answers with one line of JSON: `seconds`, and how many were `invalid`.
A transaction is `bench` of tests/support/conformance_chaincode.py: three reads, two writes, one private write, endorsed
by both hospitals, and waited for until it is committed.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
from hlf.certs import private_key_to_pem
from support.devnet import MSP_IDS, Devnet

HOME = "HospitalA"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Load:
    """Transactions that were sent together, and the CPU seconds that each group of processes spent meanwhile."""

    transactions: int
    seconds: float
    invalid: int
    cpu: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.transactions / self.seconds

    def cpu_ms(self, group: str) -> float:
        """A transaction."""
        return 1000 * self.cpu[group] / self.transactions

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.transactions + other.transactions,
            self.seconds + other.seconds,
            self.invalid + other.invalid,
            {group: self.cpu[group] + other.cpu[group] for group in self.cpu},
        )


class LoadClient:
    """A running client process. Its own CPU counts as group `client`."""

    def __init__(self, devnet: Devnet, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._groups = {"client": [process.pid], **groups(devnet)}

    @classmethod
    @asynccontextmanager
    async def started(
        cls, devnet: Devnet, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[Self]:
        """`command` is given the path of a connection file."""
        process = await asyncio.create_subprocess_exec(
            *command,
            str(write_connection(devnet)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield cls(devnet, process)
        finally:
            process.kill()
            await process.wait()

    async def send(self, first: int, count: int, clients: int) -> Load:
        assert self._process.stdin is not None and self._process.stdout is not None
        before = self._cpu()
        self._process.stdin.write(f"{first} {count} {clients}\n".encode())
        await self._process.stdin.drain()
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the client process ended")
        told, after = json.loads(answer), self._cpu()
        return Load(count, told["seconds"], told["invalid"], {group: after[group] - before[group] for group in before})

    def _cpu(self) -> dict[str, float]:
        return {group: sum(cpu_seconds(pid) for pid in pids) for group, pids in self._groups.items()}


def groups(devnet: Devnet) -> dict[str, list[int]]:
    """Process ids of the network and of its chaincodes."""
    assert devnet.process is not None
    return {
        "network": [devnet.process.pid],
        "chaincode": [process.pid for process in devnet.chaincode_processes.values()],
    }


def cpu_seconds(pid: int) -> float:
    """User and system, of all threads; the kernel counts in hundredths of a second."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


def memory_mb(pid: int) -> float:
    """Resident memory in MiB."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def write_connection(devnet: Devnet) -> Path:
    """What a client needs to know, in a file of the devnet's folder."""
    path = devnet.folder / "connection.json"
    if not path.exists():
        identity, endpoint = devnet.member(HOME), devnet.endpoint(HOME)
        assert endpoint.tls_ca_pem is not None
        connection = {
            "address": endpoint.address,
            "tlsCa": endpoint.tls_ca_pem.decode(),
            "mspId": identity.msp_id,
            "certificate": identity.certificate_pem.decode(),
            "privateKey": private_key_to_pem(identity.private_key).decode(),
            "channel": devnet.channel,
            "chaincode": devnet.chaincode,
            "endorsers": list(MSP_IDS),
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(connection))
    return path

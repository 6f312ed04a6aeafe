"""Processes that a change needs beside those that run: the supervisor starts them, or whoever runs containers does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from emr_network.fabric.served import served_id
from emr_network.home import Home
from emr_network.ports import Ports

from emr_deploy.process import Process
from emr_deploy.readiness import Readiness, Say
from emr_deploy.supervisor import Supervisor

CHAINCODE_ID = "CHAINCODE_ID"


class NotStarted(Exception):
    """Somebody else has to start a process before the change can go on; the text says which and how."""


class Starter(Protocol):
    async def start(self, processes: Sequence[Process], say: Say) -> None:
        """Returns once they are ready. Raises NotReady or NotStarted."""


@dataclass(frozen=True)
class Supervised:
    """`supervise` makes processes known to the supervisor."""

    home: Home
    ports: Ports
    supervise: Callable[[], None]

    async def start(self, processes: Sequence[Process], say: Say) -> None:
        self.supervise()
        Supervisor(self.home).launch([one.name for one in processes])
        async with Readiness(self.home, self.ports) as readiness:
            await readiness.wait(processes, say)


@dataclass(frozen=True)
class InContainers:
    """Contracts in containers of docker-compose.yaml. `deliver` brings each the id of its package."""

    ports: Ports
    deliver: Callable[[], None]

    async def start(self, processes: Sequence[Process], say: Say) -> None:
        self.deliver()
        missing = [one for one in processes if not await self._is_served(one)]
        if missing:
            names = " ".join(one.name for one in missing)
            raise NotStarted(
                f"the new version is installed, and does not run yet: start it with docker compose up -d --no-deps "
                f"--force-recreate {names}, then run this command again"
            )
        for one in processes:
            say(f"ready  {one.name:16} {self.ports.address(one.name)}")

    async def _is_served(self, process: Process) -> bool:
        """A process that shows another id would be of no use to a peer once the new version is in force."""
        return await served_id(self.ports.address(process.name)) == process.program.environment[CHAINCODE_ID]

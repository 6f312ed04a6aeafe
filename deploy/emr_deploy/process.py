"""A supervised process, and at which stage of a start it comes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from emr_network.ports import HOST

from emr_deploy.supervisor import Program


class Stage(IntEnum):
    """In this order processes start, each once the ones before are ready; what is of one stage starts together."""

    NETWORK = 1
    STORES = 2
    SERVICES = 3


@dataclass(frozen=True)
class Process:
    """`port` is where it listens, `organization` the hospital whose it is, if it is one's.

    `probe` is the port at which it tells its health over HTTP, where that is another one.
    """

    program: Program
    stage: Stage
    port: int
    service: str
    organization: str | None = None
    probe: int | None = None

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.probe or self.port}"

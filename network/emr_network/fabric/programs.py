"""Where the official programs are: `FABRIC_BIN`, else `PATH`."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class ProgramsMissing(Exception):
    """Fabric's `peer` and `orderer` are not on this machine."""


@dataclass(frozen=True)
class Programs:
    """`ca_server` is None where fabric-ca-server is missing: the development CA serves then."""

    peer: Path
    orderer: Path
    ca_server: Path | None = None

    @classmethod
    def find(cls) -> Programs:
        """Raises ProgramsMissing."""
        peer, orderer, ca_server = (_found(name) for name in ("peer", "orderer", "fabric-ca-server"))
        if peer is None or orderer is None:
            raise ProgramsMissing("set FABRIC_BIN to the folder with Fabric's peer and orderer, or put them on PATH")
        return cls(peer, orderer, ca_server)

    def version(self) -> str:
        """Such as `v3.1.5`."""
        told = subprocess.run([str(self.peer), "version"], capture_output=True, text=True, check=True, timeout=30)
        lines = (line.partition(":") for line in told.stdout.splitlines())
        return next(value.strip() for name, _, value in lines if name.strip() == "Version")


def _found(name: str) -> Path | None:
    found = shutil.which(name, path=os.environ.get("FABRIC_BIN"))
    return Path(found).resolve() if found else None

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
    peer: Path
    orderer: Path

    @classmethod
    def find(cls) -> Programs:
        """Raises ProgramsMissing."""
        folder = os.environ.get("FABRIC_BIN")
        found = {name: shutil.which(name, path=folder) for name in ("peer", "orderer")}
        if not all(found.values()):
            raise ProgramsMissing("set FABRIC_BIN to the folder with Fabric's peer and orderer, or put them on PATH")
        return cls(*(Path(str(found[name])).resolve() for name in ("peer", "orderer")))

    def version(self) -> str:
        """Such as `v3.1.5`."""
        told = subprocess.run([str(self.peer), "version"], capture_output=True, text=True, check=True, timeout=30)
        lines = (line.partition(":") for line in told.stdout.splitlines())
        return next(value.strip() for name, _, value in lines if name.strip() == "Version")

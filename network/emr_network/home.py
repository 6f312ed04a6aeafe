"""Where a run keeps what it makes: one folder, EMR_HOME, the checkout's `.emr/` unless the environment says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOPOLOGY = CHECKOUT / "network" / "topology.yaml"


@dataclass(frozen=True)
class Home:
    """The layout of EMR_HOME. Nothing is made by asking for a path, except by `write_secret` and `folder`."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        return cls(Path(os.environ.get("EMR_HOME") or CHECKOUT / ".emr").resolve())

    @property
    def topology(self) -> Path:
        """The copy of the topology that this run was made from."""
        return self.root / "topology.yaml"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def network(self) -> Path:
        return self.root / "network"

    @property
    def organizations(self) -> Path:
        """Certificates in the layout of Fabric's tools: `peerOrganizations/<domain>/…`."""
        return self.network / "organizations"

    @property
    def fabric(self) -> Path:
        """What official peers, orderers and CAs store, a folder each."""
        return self.network / "fabric"

    @property
    def packages(self) -> Path:
        """The chaincode packages that the hospitals have installed."""
        return self.network / "chaincode"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def secret(self, organization: str, name: str) -> Path:
        return self.secrets / organization / name

    def write_secret(self, path: Path, content: bytes | str) -> Path:
        """Writes `content` so that only the owner can ever read it: the file is made with mode 0600."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_name(f".{path.name}.partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
        return path

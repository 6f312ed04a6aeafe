"""devnet or official peers, by name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.devnet import Network, running_devnet
from support.fabric import running_fabric
from support.programs import official_programs


@asynccontextmanager
async def running_network(kind: str, folder: Path, **options: Any) -> AsyncIterator[Network]:
    """`kind`: devnet, or else Fabric. Skips where Fabric's programs are missing. `options` as both take them."""
    if kind != "devnet":
        official_programs()
    running = running_devnet if kind == "devnet" else running_fabric
    async with running(folder, **options) as network:
        yield network

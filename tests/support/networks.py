"""devnet or official peers, by name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from emr_network.fabric.programs import ProgramsMissing
from support.devnet import Network, running_devnet
from support.fabric import running_fabric


@asynccontextmanager
async def running_network(kind: str, folder: Path, **options: Any) -> AsyncIterator[Network]:
    """`kind`: devnet or fabric. Skips where Fabric's programs are missing. `options` as both take them."""
    if kind == "devnet":
        async with running_devnet(folder, **options) as devnet:
            yield devnet
        return
    try:
        fabric = running_fabric(folder, **options)
        official = await fabric.__aenter__()
    except ProgramsMissing as missing:
        pytest.skip(str(missing))
    try:
        yield official
    finally:
        await fabric.__aexit__(None, None, None)

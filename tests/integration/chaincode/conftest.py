"""The contract on each kind of network there is, once a session, and a patient for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.contract_network import ContractNetwork, on_devnet, on_fabric
from support.contract_stories import Story, register_hospitals
from support.programs import official_programs


@pytest.fixture(scope="session", params=["devnet", "fabric"])
async def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ContractNetwork]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "fabric":
        official_programs()
    running = on_devnet(folder) if request.param == "devnet" else on_fabric(folder)
    async with running as network:
        await register_hospitals(network)
        yield network


@pytest.fixture
async def story(network: ContractNetwork) -> AsyncIterator[Story]:
    """A new EMR of hospital A, without notes. The clock goes back to the present afterwards."""
    yield await Story.begin(network)
    network.clock.ahead = timedelta(0)

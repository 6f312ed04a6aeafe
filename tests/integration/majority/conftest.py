"""Three hospitals of which a majority endorses, on each kind of network there is; records services at A and B, and
projectors that follow their peers' blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from emr_common.emr_keys import EmrKeys
from emr_common.owners_word import OwnersWord
from emr_common.sealing import WrappingKey
from emr_common.telemetry import describe_failure
from emr_consent.sharer.snapshots import Snapshots
from emr_consent.sharer.worker import Sharer
from emr_consent.store import SharingStore
from emr_indexer.peer import PeerBlocks
from emr_indexer.projector.contents import Pseudonyms
from emr_indexer.projector.projector import Projector
from emr_readmodel import migrate
from support.contract_network import CHANNEL, A, B, ContractNetwork, on_devnet, on_fabric
from support.postgres import PostgresServer, empty_database, postgres_server
from support.programs import official_programs
from support.read_model import PSEUDONYM_KEY, records
from support.records_hospital import RecordsHospital, records_hospital

C = "HospitalC"
THREE = (A, B, C)


@dataclass
class Consortium:
    network: ContractNetwork
    a: RecordsHospital
    b: RecordsHospital
    sharer: Sharer
    """Of A; it runs."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    rendering: list[structlog.typing.Processor] = [describe_failure, structlog.processors.JSONRenderer()]
    structlog.configure(processors=rendering)
    with postgres_server() as running:
        yield running
    structlog.reset_defaults()


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def consortium(
    request: pytest.FixtureRequest, server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Consortium]:
    if request.param == "fabric":
        official_programs()
    folder: Path = tmp_path_factory.mktemp(request.param)
    starting = on_devnet if request.param == "devnet" else on_fabric
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(starting(folder, THREE))
        template = await stack.enter_async_context(empty_database(server))
        await migrate.upgrade(template)
        a, b = [await _hospital(stack, network, server, template, msp_id, folder) for msp_id in (A, B)]
        sharer = _sharer(a)
        await stack.enter_async_context(_running(sharer.run()))
        yield Consortium(network, a, b, sharer)


async def _hospital(
    stack: AsyncExitStack, network: ContractNetwork, server: PostgresServer, template: str, msp_id: str, folder: Path
) -> RecordsHospital:
    url = await stack.enter_async_context(empty_database(server, template=template.rsplit("/", 1)[1]))
    hospital = await stack.enter_async_context(records_hospital(network, msp_id, url, folder / f"records-{msp_id}"))
    await stack.enter_async_context(_running(_follow(hospital)))
    return hospital


async def _follow(hospital: RecordsHospital) -> None:
    wrapping = WrappingKey.from_file(hospital.settings.sealing.wrapping_keyset_file)
    projector = Projector(hospital.engine, hospital.msp_id, wrapping, Pseudonyms(PSEUDONYM_KEY))
    peer = PeerBlocks(hospital.hospital.gateway, hospital.foundation.ledger.service, CHANNEL)
    async for block in peer.after(None):
        await projector.project(records([block], hospital.msp_id))


def _sharer(hospital: RecordsHospital) -> Sharer:
    ledger, engine = hospital.foundation.ledger, hospital.engine
    keys = EmrKeys(engine, WrappingKey.from_file(hospital.settings.sealing.wrapping_keyset_file))
    word = OwnersWord(engine, ledger, hospital.foundation.positions)
    store = SharingStore(engine, hospital.msp_id)
    return Sharer(Snapshots(ledger, keys), store, word, hospital.msp_id, _hears_nothing)


async def _hears_nothing() -> bool:
    """There is no Kafka here: its sweep alone finds what is due."""
    return False


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

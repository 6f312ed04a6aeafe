from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from emr_common.telemetry import describe_failure
from emr_model.ledger.functions import Role
from emr_readmodel import migrate
from support.contract_network import A, B, ContractNetwork, on_devnet
from support.postgres import PostgresServer, empty_database, postgres_server
from support.records_hospital import Person, RecordsHospital, records_hospital


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """As services log: an exception is its classes and lines. structlog's own rendering takes seconds for each."""
    rendering: list[structlog.typing.Processor] = [describe_failure, structlog.processors.JSONRenderer()]
    structlog.configure(processors=rendering)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
async def network(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ContractNetwork]:
    """After the database server: a process that has used gRPC should not fork."""
    async with on_devnet(tmp_path_factory.mktemp("devnet")) as running:
        yield running


@pytest.fixture(scope="session")
async def a(
    network: ContractNetwork, server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordsHospital]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        async with records_hospital(network, A, url, tmp_path_factory.mktemp("a")) as hospital:
            yield hospital


@pytest.fixture(scope="session")
async def b(
    network: ContractNetwork, server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordsHospital]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        async with records_hospital(network, B, url, tmp_path_factory.mktemp("b")) as hospital:
            yield hospital


@pytest.fixture
async def physician(a: RecordsHospital, b: RecordsHospital) -> Person:
    """Of hospital A. Both hospitals are registered: every write needs both."""
    return await a.enrol(Role.PHYSICIAN)


@pytest.fixture
async def patient(a: RecordsHospital, b: RecordsHospital) -> Person:
    """Of hospital A, with an EMR without notes."""
    return await a.admit()

"""Two hospitals for all cases, on devnet and, where its programs are found, on official peers.

Each case uses keys of its own. `network` is parametrized; `devnet` is for what only devnet has.
`--write-verified` writes `docs/verified-on-fabric.md` from the run's results; without official programs it stays.
"""

from collections.abc import AsyncIterator

import pytest
from emr_network.fabric.programs import ProgramsMissing
from hlf.gateway import Gateway, Timeouts
from hlf.identity import SigningIdentity
from support.devnet import Devnet, Network, running_devnet
from support.networks import running_network
from support.verified_cases import results_of, write_page


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-verified", action="store_true", help="write docs/verified-on-fabric.md")
    parser.addoption("--record-answers", action="store_true", help="write answers into the corpus of changed messages")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--write-verified", default=False):
        return
    try:
        write_page(results_of(terminalreporter.stats))
    except ProgramsMissing as missing:
        terminalreporter.write_line(f"docs/verified-on-fabric.md stays as it is: {missing}")


@pytest.fixture(scope="session")
async def devnet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devnet]:
    async with running_devnet(tmp_path_factory.mktemp("devnet")) as running:
        yield running


@pytest.fixture(scope="session", params=["devnet", "fabric"])
async def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with running_network(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="session")
async def gateway(network: Network) -> AsyncIterator[Gateway]:
    async with network.gateway("HospitalA", Timeouts(evaluate=15, endorse=30)) as gateway:
        yield gateway


@pytest.fixture(scope="session")
async def gateway_b(network: Network) -> AsyncIterator[Gateway]:
    async with network.gateway("HospitalB", Timeouts(evaluate=15, endorse=30)) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def somebody(network: Network) -> SigningIdentity:
    """A client of hospital A."""
    return network.member("HospitalA", attributes={"role": "tester"})

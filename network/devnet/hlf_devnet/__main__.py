"""`python -m hlf_devnet CONFIG.yaml`: runs until SIGTERM or SIGINT. Prints one line when clients may call."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from hlf.admin.errors import PackageInvalid

from hlf_devnet.config import ConfigError, DevnetConfig, load
from hlf_devnet.control import control_app
from hlf_devnet.faults import LEDGER_FAULTS
from hlf_devnet.grpc_server import AddressInUse
from hlf_devnet.http_server import EmbeddedServer, embedded
from hlf_devnet.msp import MspError
from hlf_devnet.network import Network

logger = logging.getLogger("hlf_devnet")

_STARTING_FAULTS = (ConfigError, MspError, PackageInvalid, AddressInUse, OSError, *LEDGER_FAULTS)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    if len(sys.argv) != 2:
        logger.error("usage: python -m hlf_devnet CONFIG.yaml")
        return 2
    try:
        path = Path(sys.argv[1])
        return asyncio.run(_run(load(path), path.resolve().parent))
    except _STARTING_FAULTS as error:
        logger.error("devnet ends: %s", error)
        return 1


async def _run(config: DevnetConfig, folder: Path) -> int:
    network = Network.open(config)
    control = None if config.control is None else embedded(control_app(network, folder), config.control.listen)
    try:
        await network.start()
        serving = None if control is None else asyncio.create_task(control.serve())
        members = ", ".join(network.members())
        logger.info(
            "devnet is ready: channel %s, %s (all in one process: for development only)", config.channel, members
        )
        failure = await _until_signal_or_failure(network)
        if failure is not None:
            logger.error("devnet ends: %s", failure, exc_info=None if isinstance(failure, LEDGER_FAULTS) else failure)
        await _end(control, serving)
        return 0 if failure is None else 1
    finally:
        await network.close()


async def _until_signal_or_failure(network: Network) -> BaseException | None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    signalled, failed = asyncio.create_task(ended.wait()), asyncio.create_task(network.failed())
    done, pending = await asyncio.wait((signalled, failed), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return failed.result() if failed in done else None


async def _end(control: EmbeddedServer | None, serving: "asyncio.Task[None] | None") -> None:
    if control is not None and serving is not None:
        control.should_exit = True
        await serving


if __name__ == "__main__":
    sys.exit(main())

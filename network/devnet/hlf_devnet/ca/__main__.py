"""`python -m hlf_devnet.ca CONFIG.yaml`: runs until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from hlf.certs import CertificateAuthority

from hlf_devnet.ca import config
from hlf_devnet.ca.api import ca_app
from hlf_devnet.ca.authority import Authority
from hlf_devnet.ca.store import Store
from hlf_devnet.config import ConfigError
from hlf_devnet.http_server import EmbeddedServer, embedded

logger = logging.getLogger("hlf_devnet.ca")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    if len(sys.argv) != 2:
        logger.error("usage: python -m hlf_devnet.ca CONFIG.yaml")
        return 2
    try:
        return asyncio.run(_run(config.load(Path(sys.argv[1]))))
    except (ConfigError, OSError, ValueError) as error:
        logger.error("the certificate authority ends: %s", error)
        return 1


def open_authority(settings: config.Authority, data_dir: Path) -> Authority:
    """Opens the authority's database, or makes it with the registrar in it."""
    signer = CertificateAuthority.load(settings.ca_cert.read_bytes(), settings.ca_key.read_bytes())
    store = Store(data_dir / f"{settings.msp_id}.sqlite")
    authority = Authority(settings.name, signer, store, settings.crl_file)
    authority.bootstrap(settings.registrar.id, settings.registrar.secret_file.read_text(encoding="utf-8").strip())
    return authority


async def _run(settings: config.CaConfig) -> int:
    authorities = [open_authority(one, settings.data_dir) for one in settings.authorities]
    servers = [
        embedded(ca_app(authority), one.listen, one.tls_cert, one.tls_key)
        for authority, one in zip(authorities, settings.authorities, strict=True)
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, servers)
    try:
        async with asyncio.TaskGroup() as serving:
            for server in servers:
                serving.create_task(server.serve())
            logger.info("certificate authorities: %s", ", ".join(one.name for one in settings.authorities))
    finally:
        for authority in authorities:
            authority.store.close()
    return 0


def _end(servers: list[EmbeddedServer]) -> None:
    for server in servers:
        server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())

"""``python -m emr_chaincode``: serves the contract to one hospital's peers.

Settings, as chaincode-as-a-service images know them: ``CHAINCODE_SERVER_ADDRESS`` (host:port), ``CHAINCODE_ID`` (the
package id) or ``CHAINCODE_ID_FILE`` (a file with it), ``CORE_PEER_LOCALMSPID``; for TLS ``CHAINCODE_TLS_CERT_FILE`` and
``CHAINCODE_TLS_KEY_FILE``, and ``CHAINCODE_TLS_CLIENT_CA_FILE`` to ask peers for a certificate;
``CHAINCODE_LOG_LEVEL``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hlf.chaincode import AddressInUse, ChaincodeServer, ServerTls, serve

from emr_chaincode.contract import EmrContract

logger = logging.getLogger("emr_chaincode")


class SettingMissing(Exception):
    """An environment variable that must be set is not."""


def main() -> int:
    """0 after SIGTERM, 1 when the address is taken, 2 for settings that do not fit together."""
    logging.basicConfig(
        level=os.environ.get("CHAINCODE_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    try:
        server = server_from(os.environ)
    except (SettingMissing, OSError) as error:
        logger.error("the chaincode cannot start: %s", error)
        return 2
    try:
        asyncio.run(serve(server))
    except AddressInUse as error:
        logger.error("the chaincode cannot start: %s", error)
        return 1
    return 0


def server_from(environment: Mapping[str, str]) -> ChaincodeServer:
    """Raises ``SettingMissing``; OSError for a file that cannot be read."""
    logger.info("serving the peers of %s", _setting(environment, "CORE_PEER_LOCALMSPID"))
    return ChaincodeServer(
        EmrContract(),
        _setting(environment, "CHAINCODE_SERVER_ADDRESS"),
        _package_id(environment),
        tls=_tls(environment),
    )


def _package_id(environment: Mapping[str, str]) -> str:
    if not environment.get("CHAINCODE_ID") and environment.get("CHAINCODE_ID_FILE"):
        return Path(environment["CHAINCODE_ID_FILE"]).read_text(encoding="utf-8").strip()
    return _setting(environment, "CHAINCODE_ID")


def _tls(environment: Mapping[str, str]) -> ServerTls | None:
    if not environment.get("CHAINCODE_TLS_CERT_FILE") and not environment.get("CHAINCODE_TLS_KEY_FILE"):
        return None
    certificate_file, key_file = (
        Path(_setting(environment, name)) for name in ("CHAINCODE_TLS_CERT_FILE", "CHAINCODE_TLS_KEY_FILE")
    )
    client_ca_file = environment.get("CHAINCODE_TLS_CLIENT_CA_FILE")
    return ServerTls(
        certificate_pem=certificate_file.read_bytes(),
        private_key_pem=key_file.read_bytes(),
        client_ca_pem=Path(client_ca_file).read_bytes() if client_ca_file else None,
    )


def _setting(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise SettingMissing(f"{name} is not set")
    return environment[name]


if __name__ == "__main__":
    sys.exit(main())

"""``python -m emr_chaincode`` as an operator meets it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import grpc
import pytest
from emr_chaincode.__main__ import SettingMissing, server_from
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from support.chaincode_peer import connected

SETTINGS = {
    "CORE_PEER_LOCALMSPID": "HospitalA",
    "CHAINCODE_SERVER_ADDRESS": "127.0.0.1:0",
    "CHAINCODE_ID": "emr:1",
}


async def start(**settings: str) -> Process:
    environment = {"PATH": os.environ["PATH"], **settings}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "emr_chaincode", stderr=PIPE, env=environment)


async def log_of(process: Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


@pytest.mark.parametrize("missing", list(SETTINGS))
def test_every_setting_is_needed(missing: str) -> None:
    with pytest.raises(SettingMissing, match=missing):
        server_from({name: value for name, value in SETTINGS.items() if name != missing})


def test_a_tls_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingMissing, match="CHAINCODE_TLS_KEY_FILE"):
        server_from({**SETTINGS, "CHAINCODE_TLS_CERT_FILE": str(tmp_path / "server.crt")})


async def test_it_serves_over_tls_where_it_is_told_to(tmp_path: Path) -> None:
    authority, key = CertificateAuthority.create("tlsca", "A"), new_private_key()
    certificate = authority.issue("chaincode", key.public_key(), purpose=Purpose.TLS, sans=["localhost"])
    (tmp_path / "crt").write_bytes(certificate_to_pem(certificate))
    (tmp_path / "key").write_bytes(private_key_to_pem(key))
    files = {"CHAINCODE_TLS_CERT_FILE": str(tmp_path / "crt"), "CHAINCODE_TLS_KEY_FILE": str(tmp_path / "key")}

    credentials = grpc.ssl_channel_credentials(authority.certificate_pem)
    async with server_from({**SETTINGS, **files}) as server, connected(server.port, credentials) as peer:
        assert await peer.register() == "emr:1"


async def test_its_package_id_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("emr_1.0:5e2f\n")
    settings = {name: value for name, value in SETTINGS.items() if name != "CHAINCODE_ID"}
    server = server_from({**settings, "CHAINCODE_ID_FILE": str(tmp_path / "id")})
    async with server, connected(server.port) as peer:
        assert await peer.register() == "emr_1.0:5e2f"


async def test_it_ends_with_zero_when_it_is_told_to_stop() -> None:
    process = await start(**SETTINGS)
    assert process.stderr is not None
    while b"listens on port" not in await process.stderr.readline():
        continue
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_setting_that_is_missing_is_told_in_one_line() -> None:
    process = await start(CORE_PEER_LOCALMSPID="HospitalA")
    assert await asyncio.wait_for(process.wait(), 10) == 2
    assert "CHAINCODE_SERVER_ADDRESS is not set" in await log_of(process)


async def test_an_address_that_is_taken_is_told_in_one_line() -> None:
    async with server_from(SETTINGS) as server:
        process = await start(**{**SETTINGS, "CHAINCODE_SERVER_ADDRESS": f"127.0.0.1:{server.port}"})
        assert await asyncio.wait_for(process.wait(), 10) == 1
    assert "cannot listen on" in await log_of(process)

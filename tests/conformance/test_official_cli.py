"""Fabric's own `peer` command against devnet, where the program is found."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from emr_network.fabric.programs import Programs, ProgramsMissing
from hlf.certs import private_key_to_pem
from support.devnet import Devnet, write_identity

Peer = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def peer(devnet: Devnet, tmp_path: Path) -> Peer:
    """Runs `peer ARGUMENTS` as hospital A's administrator: exit code and what it printed."""
    try:
        program = Programs.find().peer
    except ProgramsMissing as missing:
        pytest.skip(str(missing))
    member = devnet.members["HospitalA"]
    administrator = member.identity("admin", role="admin")
    write_identity(
        tmp_path / "msp", member, administrator.certificate_pem, private_key_to_pem(administrator.private_key)
    )
    (tmp_path / "core.yaml").write_text("peer: {BCCSP: {Default: SW, SW: {Hash: SHA2, Security: 256}}}\n")
    environment = {
        **os.environ,
        "FABRIC_CFG_PATH": str(tmp_path),
        "FABRIC_LOGGING_SPEC": "ERROR",
        "CORE_PEER_LOCALMSPID": member.msp_id,
        "CORE_PEER_MSPCONFIGPATH": str(tmp_path / "msp"),
        "CORE_PEER_ADDRESS": member.peer_address,
        "CORE_PEER_TLS_ENABLED": "true",
        "CORE_PEER_TLS_ROOTCERT_FILE": str(member.msp_dir / "tlscacerts" / "tlsca.pem"),
    }

    async def run(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, said.decode()

    return run


async def test_a_chaincode_is_queried(peer: Peer) -> None:
    query = ("chaincode", "query", "-C", "care", "-n", "conformance", "-c")
    code, said = await peer(*query, '{"Args":["who"]}')
    assert (code, '"mspId": "HospitalA"' in said) == (0, True)
    code, said = await peer(*query, '{"Args":["refuse","404","NOT_THERE","nothing"]}')
    assert (code, 'status:404  message:"NOT_THERE: nothing"' in said.replace("404 m", "404  m")) == (1, True)


async def test_channel_and_definitions_are_told(peer: Peer, tmp_path: Path) -> None:
    assert "care" in (await peer("channel", "list"))[1]
    assert '{"height":' in (await peer("channel", "getinfo", "-c", "care"))[1]
    lifecycle = ("lifecycle", "chaincode")
    code, said = await peer(*lifecycle, "querycommitted", "-C", "care", "-n", "conformance")
    assert (code, "Approvals: [HospitalA: true, HospitalB: true]" in said) == (0, True)
    assert "Label: conformance_1.0" in (await peer(*lifecycle, "queryinstalled"))[1]
    assert "sequence: 1" in (await peer(*lifecycle, "queryapproved", "-C", "care", "-n", "conformance"))[1]
    code, said = await peer("channel", "fetch", "0", str(tmp_path / "block"), "-c", "care")
    assert code == 0, said
    assert (tmp_path / "block").stat().st_size > 1000

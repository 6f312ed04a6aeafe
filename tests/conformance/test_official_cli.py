"""Fabric's own `peer` command against devnet, where the program is found."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hlf.admin.packaging import ServiceAddress, package
from hlf.certs import private_key_to_pem
from hlf.channel_config import config_of
from support.devnet import MSP_IDS, ORDERER_MSP_ID, Devnet, write_identity
from support.ports import free_address
from support.programs import official_programs

Peer = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def peer(devnet: Devnet, tmp_path: Path) -> Peer:
    """Runs `peer ARGUMENTS` as hospital A's administrator: exit code and what it printed."""
    program = official_programs().peer
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


@pytest.fixture
def orderer(devnet: Devnet) -> tuple[str, ...]:
    """Where the orderer is, for commands that call it themselves."""
    member = devnet.members[ORDERER_MSP_ID]
    return ("-o", member.peer_address, "--tls", "--cafile", str(member.msp_dir / "tlscacerts" / "tlsca.pem"))


def peers(devnet: Devnet) -> list[str]:
    found = []
    for member in (devnet.members[msp_id] for msp_id in MSP_IDS):
        found += ["--peerAddresses", member.peer_address]
        found += ["--tlsRootCertFiles", str(member.msp_dir / "tlscacerts" / "tlsca.pem")]
    return found


async def test_a_chaincode_is_invoked_past_the_gateway(peer: Peer, orderer: tuple[str, ...], devnet: Devnet) -> None:
    """The command asks both peers itself, and sends the transaction to the orderer's port."""
    invoke = (
        "chaincode",
        "invoke",
        *orderer,
        "-C",
        "care",
        "-n",
        "conformance",
        *peers(devnet),
        "--waitForEvent",
        "-c",
    )
    code, said = await peer(*invoke, '{"Args":["put","cli","written by the command"]}')
    assert code == 0, said
    code, said = await peer("chaincode", "query", "-C", "care", "-n", "conformance", "-c", '{"Args":["get","cli"]}')
    assert (code, said.strip()) == (0, "written by the command")


async def test_a_chaincode_is_installed_and_approved(
    peer: Peer, orderer: tuple[str, ...], devnet: Devnet, tmp_path: Path
) -> None:
    made = package("cli_1", ServiceAddress(free_address()))
    (tmp_path / "cli.tar.gz").write_bytes(made.content)
    lifecycle = ("lifecycle", "chaincode")
    code, said = await peer(*lifecycle, "install", str(tmp_path / "cli.tar.gz"))
    assert code == 0, said
    assert made.package_id in (await peer(*lifecycle, "queryinstalled"))[1]
    definition = ("-C", "care", "--name", "cli", "--version", "1", "--sequence", "1")
    address = ("--peerAddresses", devnet.members["HospitalA"].peer_address, *peers(devnet)[2:4])
    code, said = await peer(
        *lifecycle, "approveformyorg", *orderer, *definition, "--package-id", made.package_id, *address
    )
    assert code == 0, said
    code, said = await peer(*lifecycle, "checkcommitreadiness", *definition)
    assert (code, "HospitalA: true" in said, "HospitalB: false" in said) == (0, True, True), said


async def test_the_configuration_is_fetched_from_the_orderer(
    peer: Peer, orderer: tuple[str, ...], tmp_path: Path
) -> None:
    code, said = await peer("channel", "fetch", "config", str(tmp_path / "block"), *orderer, "-c", "care")
    assert code == 0, said
    assert config_of((tmp_path / "block").read_bytes()).channel_group.groups["Application"].groups


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

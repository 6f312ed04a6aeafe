"""A network of containers changed from its operator's container, where nobody supervises processes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from emr_chaincode.contract import EmrContract
from emr_deploy.administration.starting import InContainers, NotStarted
from emr_deploy.cli import EXIT_CODES
from emr_deploy.commands.administration import add_org, remove_org
from emr_deploy.compose import places
from emr_deploy.compose.steps import containers_topology
from emr_deploy.process import Process, Stage
from emr_deploy.supervisor import Program
from emr_deploy.system import UsageError
from emr_network.fabric.served import served_id
from emr_network.home import TOPOLOGY, Home
from emr_network.ports import Ports
from emr_network.topology import save
from hlf.chaincode import ChaincodeServer

NAME, OLD, NEW = "chaincode-a-2", "emr_1.0:0123", "emr_1.1:4567"


def contract(package_id: str) -> ChaincodeServer:
    return ChaincodeServer(EmrContract(), "127.0.0.1:0", package_id)


def containers(tmp_path: Path, port: int) -> Ports:
    return Ports.of_hosts(tmp_path / "ports.json", {NAME: ("127.0.0.1", port)})


def wanted(port: int) -> list[Process]:
    program = Program(NAME, ["python", "-m", "emr_chaincode"], {"CHAINCODE_ID": NEW})
    return [Process(program, Stage.NETWORK, port, "chaincode", "a")]


async def test_a_contract_says_as_which_package_it_runs() -> None:
    async with contract(NEW) as server:
        assert await served_id(f"127.0.0.1:{server.port}") == NEW


async def test_where_nobody_listens_no_package_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unanswering:
        port = unanswering.getsockname()[1]
        assert await served_id(f"127.0.0.1:{port}", seconds=0.2) is None
    assert await served_id(f"127.0.0.1:{port}") is None


async def test_a_new_version_comes_into_force_only_where_it_runs_already(tmp_path: Path) -> None:
    told: list[str] = []
    async with contract(NEW) as server:
        await InContainers(containers(tmp_path, server.port), lambda: told.append("delivered")).start(
            wanted(server.port), told.append
        )
    assert told[0] == "delivered"
    assert told[1].split() == ["ready", NAME, f"127.0.0.1:{server.port}"]


async def test_a_process_that_still_runs_the_old_version_does_not_count(tmp_path: Path) -> None:
    """It would be refused by every peer, and with the new version in force nothing could be written."""
    async with contract(OLD) as server:
        with pytest.raises(NotStarted, match=f"--force-recreate {NAME}"):
            await InContainers(containers(tmp_path, server.port), lambda: None).start(wanted(server.port), print)


def test_a_change_that_waits_for_a_container_is_no_failure() -> None:
    assert EXIT_CODES[NotStarted] == 3


def test_hospitals_of_the_compose_file_are_neither_added_nor_removed_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, topology = Home(tmp_path), containers_topology(TOPOLOGY)
    save(topology, home.topology)
    Ports.of_hosts(home.ports, places.addresses(topology))
    monkeypatch.setenv("EMR_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"docs/compose\.md"):
        add_org("c")
    with pytest.raises(UsageError, match=r"docs/compose\.md"):
        remove_org("b", yes=True)
    assert not (tmp_path / "underway.yaml").exists()

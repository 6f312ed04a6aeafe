"""Ports are the documented ones or free ones, stay the same, and are never shared with a stranger."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from emr_network.home import TOPOLOGY
from emr_network.ports import Ports, PortTaken
from emr_network.topology import Topology, TopologyError, load


def _ports(folder: Path, *, free: bool = True) -> Ports:
    return Ports.plan(folder / "ports.json", load(TOPOLOGY), free=free)


def test_documented_ports_are_the_topologys(tmp_path: Path) -> None:
    ports = _ports(tmp_path, free=False)
    assert (ports["peer-a"], ports["registration-a"], ports["records-b"], ports["issuer"]) == (7051, 8101, 8202, 7080)


def test_every_process_has_a_port_of_its_own(tmp_path: Path) -> None:
    for free in (False, True):
        numbers = [port for _, port in _ports(tmp_path / str(free), free=free).items()]
        assert len(set(numbers)) == len(numbers)


def test_ports_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    assert dict(_ports(tmp_path).items()) == dict(_ports(tmp_path).items())


@pytest.mark.parametrize("free", [False, True])
def test_a_further_instance_gets_a_port_and_keeps_it(tmp_path: Path, free: bool) -> None:
    ports = _ports(tmp_path, free=free)
    ports.add_instance("records-a-2", "records-a", 2)
    assert ports["records-a-2"] != ports["records-a"]
    assert _ports(tmp_path)["records-a-2"] == ports["records-a-2"]


def test_an_instance_that_another_command_added_is_found(tmp_path: Path) -> None:
    known_before = _ports(tmp_path)
    added = _ports(tmp_path)
    added.add_instance("records-a-2", "records-a", 2)
    assert known_before["records-a-2"] == added["records-a-2"]
    with pytest.raises(KeyError):
        known_before["records-a-3"]


def test_a_foreign_listener_is_noticed_before_anything_starts(tmp_path: Path) -> None:
    ports = _ports(tmp_path)
    ports.require_unused()
    with socket.create_server(("127.0.0.1", ports["kafka"])), pytest.raises(PortTaken, match="meant for kafka"):
        ports.require_unused()


def test_official_nodes_have_ports_for_administration_and_metrics(tmp_path: Path) -> None:
    topology = load(TOPOLOGY, "fabric")
    ports = Ports.plan(tmp_path / "ports.json", topology)
    assert (ports["orderer-1"], ports["orderer-1-admin"], ports["peer-b-operations"]) == (6050, 6051, 8056)


def test_a_host_is_a_matter_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    path.write_text('{"free": false, "ports": {"peer-a": 7051}, "hosts": {"peer-a": "peer0.a.care.example"}}')
    ports = Ports.plan(path, load(TOPOLOGY))
    assert ports.address("peer-a") == "peer0.a.care.example:7051"
    assert ports.address("peer-b") == "127.0.0.1:8051"
    assert (ports.listen_host("peer-a"), ports.listen_host("peer-b")) == ("0.0.0.0", "127.0.0.1")


def test_two_processes_on_one_port_are_refused(tmp_path: Path) -> None:
    content = load(TOPOLOGY).model_dump(by_alias=True)
    content["ports"]["kafka"] = content["ports"]["postgres"]
    with pytest.raises(TopologyError, match="port 5442 is given to both"):
        Ports.plan(tmp_path / "ports.json", Topology.model_validate(content))


def test_a_hospital_that_joins_gets_ports_and_the_others_keep_theirs(tmp_path: Path) -> None:
    topology = load(TOPOLOGY)
    ports = _ports(tmp_path)
    before = dict(ports.items())
    newcomer = topology.organizations[1].model_copy(
        update={"name": "c", "msp_id": "HospitalC", "domain": "c.care.example"}
    )
    added = ports.extend(topology.with_organization(newcomer))
    assert {"peer-c", "ca-c", "records-c"} <= set(added)
    assert {name: port for name, port in ports.items() if name not in added} == before
    assert _ports(tmp_path)["peer-c"] == ports["peer-c"]


def test_a_process_on_a_host_of_its_own_is_reached_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    Ports.of_hosts(path, {"peer-a": ("peer0.a.care.example", 7051)})
    assert Ports.plan(path, load(TOPOLOGY)).address("peer-a") == "peer0.a.care.example:7051"

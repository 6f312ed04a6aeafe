"""The topology is read strictly, and says which endorsements a write needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from emr_network.home import TOPOLOGY
from emr_network.topology import Topology, TopologyError, load, save


def _write(folder: Path, **changes: object) -> Path:
    content = yaml.safe_load(TOPOLOGY.read_text())
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def test_the_committed_topology_has_two_hospitals_that_both_endorse() -> None:
    topology = load(TOPOLOGY)
    assert [one.msp_id for one in topology.organizations] == ["HospitalA", "HospitalB"]
    assert topology.endorsement == {"signature": "AND('HospitalA.peer','HospitalB.peer')"}


def test_majority_is_the_channels_own_policy(tmp_path: Path) -> None:
    chaincode = {"name": "emr", "version": "1", "sequence": 1, "endorsement": "majority"}
    assert load(_write(tmp_path, chaincode=chaincode)).endorsement == {"channel": "/Channel/Application/Endorsement"}


def test_an_unknown_member_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="colour"):
        load(_write(tmp_path, colour="blue"))


@pytest.mark.parametrize("shared", ["name", "mspId", "domain"])
def test_two_hospitals_never_share_a_name(tmp_path: Path, shared: str) -> None:
    organizations = yaml.safe_load(TOPOLOGY.read_text())["organizations"]
    organizations[1][shared] = organizations[0][shared]
    with pytest.raises(TopologyError, match=f"share a {shared}"):
        load(_write(tmp_path, organizations=organizations))


@pytest.mark.parametrize("name", ["a", "HospitalA"])
def test_a_hospital_is_found_by_short_name_and_by_msp_id(name: str) -> None:
    assert load(TOPOLOGY).organization(name).domain == "a.care.example"


def test_a_hospital_that_takes_no_part_is_named_as_unknown() -> None:
    with pytest.raises(TopologyError, match="no hospital is called 'c'"):
        load(TOPOLOGY).organization("c")


def test_a_topology_is_written_as_it_is_read(tmp_path: Path) -> None:
    topology = load(TOPOLOGY, "fabric")
    save(topology, tmp_path / "copy.yaml")
    assert load(tmp_path / "copy.yaml") == topology


def test_devnet_has_one_peer_a_hospital(tmp_path: Path) -> None:
    content = load(TOPOLOGY).model_dump(by_alias=True)
    content["organizations"][0]["peers"] = 2
    assert Topology.model_validate(content | {"ledger": "fabric"}).organizations[0].peers == 2
    with pytest.raises(ValueError, match="ledger fabric"):
        Topology.model_validate(content)


@pytest.mark.parametrize("changed", [{"name": "a"}, {"msp_id": "HospitalA"}, {"domain": "a.care.example"}])
def test_a_newcomer_shares_nothing_with_a_member(changed: dict[str, str]) -> None:
    topology = load(TOPOLOGY)
    fresh = {"name": "c", "msp_id": "HospitalC", "domain": "c.care.example"}
    newcomer = topology.organizations[1].model_copy(update=fresh | changed)
    with pytest.raises(TopologyError, match="share"):
        topology.with_organization(newcomer)

"""Containers find what they are told of, and cannot read what is another's."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest
import yaml
from emr_deploy.compose import places
from emr_deploy.compose.deliver import FILES, PACKAGE_ID, Delivery
from emr_deploy.compose.steps import containers_topology
from emr_deploy.programs import environment_of
from emr_deploy.system import System
from emr_network.home import TOPOLOGY, Home
from emr_network.material import peer_organization
from emr_network.ports import SERVICES, Ports, orderer_ports
from emr_network.topology import save
from hlf.identity import SigningIdentity

MADE_LATER = {"identity", "registrar", "database-url"}
"""What only `found` can make, on running CAs and databases."""


@pytest.fixture(name="delivery", scope="module")
def _delivery(tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """What `prepare` does, in folders made as `volumes` makes them but for their owners."""
    root = tmp_path_factory.mktemp("compose")
    home, topology = Home(root / "home"), containers_topology(TOPOLOGY)
    save(topology, home.topology)
    ports = Ports.of_hosts(home.ports, places.addresses(topology))
    system = System(home, lambda _: None)
    system.make()
    system.network.make()
    (root / "run" / places.ISSUER).mkdir(parents=True)
    for folder in places.folders(topology):
        path = root / "run" / folder.volume / folder.process
        path.mkdir(parents=True)
        path.chmod(0o2750)
    delivery = Delivery(home, topology, ports, root / "run")
    delivery.deliver()
    return delivery


def test_every_file_that_a_service_is_told_of_is_in_its_folder(delivery: Delivery) -> None:
    for organization in delivery.topology.organizations:
        for service in SERVICES:
            told = environment_of(delivery.home, organization, delivery.ports, service, places.API_PORT)
            names = {FILES[one] for one in told if one.endswith(("_FILE", "_DIR"))}
            folder = delivery.run / f"hospital-{organization.name}" / service
            assert {path.name for path in folder.iterdir()} == names - MADE_LATER


def test_the_key_that_opens_received_snapshots_is_with_records_alone(delivery: Delivery) -> None:
    found = {path.parent.name for path in delivery.run.rglob("sealing-private.keyset")}
    assert found == {"records"}


def test_an_authoritys_key_is_with_its_ca_alone(delivery: Delivery) -> None:
    keys = [delivery.home.organizations.rglob(f"{kind}/priv_sk") for kind in ("ca", "tlsca")]
    secrets = {path.read_bytes() for paths in keys for path in paths}
    holders = {path.parent.name for path in _files(delivery.run) if path.read_bytes() in secrets}
    assert holders == {"ca"}


def test_nothing_delivered_can_be_read_by_others_or_changed_by_its_reader(delivery: Delivery) -> None:
    for path in _files(delivery.run):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & (stat.S_IRWXO | stat.S_IWGRP), path
    for folder in places.folders(delivery.topology):
        assert stat.S_IMODE((delivery.run / folder.volume / folder.process).stat().st_mode) == 0o2750


def test_what_is_delivered_is_of_its_folders_group(delivery: Delivery) -> None:
    for folder in places.folders(delivery.topology):
        path = delivery.run / folder.volume / folder.process
        assert {one.stat().st_gid for one in path.rglob("*")} <= {path.stat().st_gid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another group")
def test_a_later_delivery_is_of_the_group_that_the_folder_was_given_to(delivery: Delivery) -> None:
    folder = delivery.run / "hospital-a" / "peer"
    os.chown(folder, -1, places.USERS["peer"])
    for part in ("msp", "tls", "config"):
        os.chown(folder / part, -1, places.USERS["peer"])
    delivery.deliver()
    assert (folder / "tls" / "server.key").stat().st_gid == places.USERS["peer"]


def test_delivering_again_changes_nothing(delivery: Delivery) -> None:
    before = {path: path.read_bytes() for path in _files(delivery.run)}
    delivery.deliver()
    assert {path: path.read_bytes() for path in _files(delivery.run)} == before


def test_a_peer_signs_with_what_it_was_given(delivery: Delivery) -> None:
    for organization in delivery.topology.organizations:
        msp = delivery.run / f"hospital-{organization.name}" / "peer" / "msp"
        assert SigningIdentity.from_msp_dir(msp, organization.msp_id).msp_id == organization.msp_id


def test_a_peer_finds_the_builder_that_its_configuration_names(delivery: Delivery) -> None:
    folder = delivery.run / "hospital-a" / "peer"
    core = yaml.safe_load((folder / "config" / "core.yaml").read_text())
    named = core["chaincode"]["externalBuilders"][0]["path"]
    programs = folder / Path(named).relative_to("/run/careledger/peer") / "bin"
    assert {path.name for path in programs.iterdir()} == {"detect", "build", "release"}
    assert all(path.stat().st_mode & stat.S_IXGRP for path in programs.iterdir())


def test_every_path_in_the_configuration_of_an_orderer_was_delivered(delivery: Delivery) -> None:
    for name in orderer_ports(delivery.topology):
        folder = delivery.run / places.ORDERING / name
        text = (folder / "orderer.yaml").read_text()
        paths = {word for word in text.split() if word.startswith(f"/run/careledger/{name}/")}
        assert len(paths) >= 5
        for path in paths:
            assert (folder / Path(path).relative_to(f"/run/careledger/{name}")).exists(), path


def test_every_path_in_the_configuration_of_a_ca_was_delivered(delivery: Delivery) -> None:
    folder = delivery.run / "hospital-b" / "ca"
    settings = yaml.safe_load((folder / "fabric-ca-server-config.yaml").read_text())
    for section in ("tls", "ca"):
        for file in ("certfile", "keyfile"):
            assert (folder / Path(settings[section][file]).relative_to("/run/careledger/ca")).is_file()
    assert settings["address"] == "0.0.0.0"


def test_the_chaincode_is_told_the_package_that_its_peers_will_install(delivery: Delivery) -> None:
    for organization in delivery.topology.organizations:
        told = (delivery.run / f"hospital-{organization.name}" / "chaincode" / "package.id").read_text()
        assert told == (delivery.home.packages / f"{organization.name}.id").read_text()
        assert told.startswith("emr_1.0:")


def test_an_upgrade_delivers_its_package_to_the_place_that_is_not_in_use(delivery: Delivery) -> None:
    current = delivery.topology.chaincode
    upcoming = delivery.topology.with_chaincode(version="1.1", slot=2, packaged=True).chaincode
    before = _package_ids(delivery)
    dataclasses.replace(delivery, upcoming=upcoming).deliver()
    during = _package_ids(delivery)
    for name in before:
        assert (during[name][0], before[name]) == (before[name][0], (before[name][0],) * 2)
        assert during[name][1].startswith("emr_1.1:")
    upgraded = delivery.topology.with_chaincode(version="1.1", slot=2, packaged=True)
    for topology in (delivery.topology, upgraded):
        dataclasses.replace(delivery, topology=topology).deliver()
        assert _package_ids(delivery) == during
    assert current.slot == 1


def _package_ids(delivery: Delivery) -> dict[str, tuple[str, ...]]:
    """What the process in each of a hospital's two places is told to be."""
    return {
        one.name: tuple(
            (delivery.run / places.hospital_volume(one) / slot / PACKAGE_ID).read_text()
            for slot in places.CONTRACT_SLOTS
        )
        for one in delivery.topology.organizations
    }


def test_a_revocation_list_comes_to_the_peers_own_folder(delivery: Delivery) -> None:
    """Calls that concern no channel are judged by it."""
    hospital = delivery.topology.organization("a")
    made = peer_organization(delivery.home, hospital).node(hospital.peer_name) / "msp" / "crls" / "revoked.pem"
    made.write_text("a list")
    delivery.deliver()
    assert (delivery.run / "hospital-a" / "peer" / "msp" / "crls" / "revoked.pem").read_text() == "a list"
    made.unlink()


def test_the_issuer_knows_clients_that_the_operator_makes_later(delivery: Delivery) -> None:
    delivery.home.write_secret(delivery.home.secret("a", "clients") / "admin", "secret")
    assert (delivery.run / places.ISSUER / "secrets" / "a" / "clients" / "admin").read_text() == "secret"


def test_a_start_that_was_cut_short_leaves_no_half_file(delivery: Delivery) -> None:
    folder = delivery.run / "hospital-a" / "records"
    (folder / ".wallet.keyset.partial").write_text("half")
    (folder / "wallet.keyset").unlink()
    delivery.deliver()
    kept = delivery.home.secret("a", "wallet.keyset").read_bytes()
    assert (folder / "wallet.keyset").read_bytes() == kept
    assert not list(folder.glob(".*"))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

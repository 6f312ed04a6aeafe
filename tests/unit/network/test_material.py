"""Certificates are made once, in Fabric's layout, and verify as Fabric verifies them."""

from __future__ import annotations

from pathlib import Path

import pytest
from emr_network.home import TOPOLOGY, Home
from emr_network.material import make_material, orderer_name, orderer_organization, peer_organization
from emr_network.topology import load
from hlf import certs
from hlf.identity import SigningIdentity


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    make_material(home, load(TOPOLOGY))
    return home


def _files(home: Home) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.organizations.rglob("*") if path.is_file()}


def test_a_peer_signs_as_a_peer_of_its_hospital(home: Home) -> None:
    hospital = load(TOPOLOGY).organization("a")
    folder = peer_organization(home, hospital)
    peer = SigningIdentity.from_msp_dir(folder.node(hospital.peer_name) / "msp", hospital.msp_id)
    authority = certs.certificate_from_pem(folder.ca_certificate.read_bytes())
    assert certs.is_issued_by(peer.identity.certificate, authority)
    assert certs.organizational_units_of(peer.identity.certificate) == ("peer",)


def test_the_orderer_signs_as_an_orderer(home: Home) -> None:
    topology = load(TOPOLOGY)
    folder = orderer_organization(home, topology).node(orderer_name(topology)) / "msp"
    orderer = SigningIdentity.from_msp_dir(folder, topology.orderer.msp_id)
    assert certs.organizational_units_of(orderer.identity.certificate) == ("orderer",)


def test_hospitals_have_authorities_of_their_own(home: Home) -> None:
    topology = load(TOPOLOGY)
    first, second = (peer_organization(home, one) for one in topology.organizations)
    peer = first.node(topology.organizations[0].peer_name) / "msp" / "signcerts" / "cert.pem"
    foreign = certs.certificate_from_pem(second.ca_certificate.read_bytes())
    assert not certs.is_issued_by(certs.certificate_from_pem(peer.read_bytes()), foreign)


def test_every_private_key_is_readable_by_its_owner_alone(home: Home) -> None:
    keys = [path for path in _files(home) if path.name in {"priv_sk", "server.key", "client.key"}]
    # Hospitals: CA, TLS CA, peer, its TLS, the CA's TLS. Orderer: all but the last; its administrator, who has two.
    assert len(keys) == 2 * 5 + 4 + 2
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


def test_making_it_again_changes_nothing(home: Home) -> None:
    before = _files(home)
    make_material(home, load(TOPOLOGY))
    assert _files(home) == before


def test_a_start_that_was_cut_short_leaves_no_half_made_hospital(home: Home) -> None:
    topology = load(TOPOLOGY)
    folder = peer_organization(home, topology.organization("b"))
    leftover = folder.root.with_name(f".{folder.domain}.partial")
    folder.root.rename(leftover)
    (leftover / "ca" / "priv_sk").unlink()
    make_material(home, topology)
    assert folder.ca_key.exists()
    assert not leftover.exists()

"""Files that hospitals exchange are read back as they were written, and refused in one line when they are not whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from emr_network.administration.files import FileInvalid, OrganizationFile, Proposal, SignatureFile
from fabric_protos.common import configtx_pb2
from hlf.admin.channel import PeerOrganization
from hlf.admin.msp import MspDefinition
from hlf.certs import CertificateAuthority


def organization(*, lifetime: timedelta = timedelta(days=30), now: datetime | None = None) -> PeerOrganization:
    authority, tls = (CertificateAuthority.create(name, "c", lifetime=lifetime, now=now) for name in ("ca", "tlsca"))
    msp = MspDefinition("HospitalC", (authority.certificate_pem,), (tls.certificate_pem,))
    return PeerOrganization(msp, ("peer0.c.care.example:7051",))


PROPOSAL = Proposal("care", "add HospitalC", configtx_pb2.ConfigUpdate(channel_id="care").SerializeToString())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for written in (OrganizationFile(organization()), PROPOSAL, SignatureFile("HospitalA", b"\x00\xff")):
        written.write(path)
        assert type(written).read(path) == written


def test_authorities_that_have_expired_are_refused(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=60)
    OrganizationFile(organization(now=long_ago)).write(tmp_path / "c.json")
    with pytest.raises(FileInvalid, match="has expired"):
        OrganizationFile.read(tmp_path / "c.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"careledger": "proposal"},
        {"format": 2},
        {"msp": "not base64"},
        {"msp": "////"},
        {"mspId": "HospitalD"},
        {"anchorPeers": ["no-port"]},
        {"anchorPeers": 7},
        {"msp": ""},
    ],
)
def test_a_damaged_organization_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "c.json"
    OrganizationFile(organization()).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FileInvalid, match=r"c\.json"):
        OrganizationFile.read(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"])
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    for kind in (OrganizationFile, Proposal, SignatureFile):
        with pytest.raises(FileInvalid, match=r"file\.json"):
            kind.read(path)


def test_a_proposal_for_another_channel_than_its_update_is_refused(tmp_path: Path) -> None:
    Proposal("other", PROPOSAL.what, PROPOSAL.update).write(tmp_path / "p.json")
    with pytest.raises(FileInvalid, match="for other"):
        Proposal.read(tmp_path / "p.json")

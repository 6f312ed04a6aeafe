"""Whose certificates count."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.msp import identities_pb2, msp_config_pb2
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key
from hlf.crypto import P256_ORDER
from hlf.identity import SigningIdentity
from hlf_devnet.msp import IdentityError, MspError, MspRegistry
from support.devnet import Member, new_member

A = "HospitalA"
NOW = datetime.now(UTC)


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return new_member(A, tmp_path / "a")


@pytest.fixture
def registry(member: Member) -> MspRegistry:
    return MspRegistry.from_dirs({A: member.msp_dir})


def serialized(msp_id: str, pem: bytes) -> bytes:
    return bytes(identities_pb2.SerializedIdentity(mspid=msp_id, id_bytes=pem).SerializeToString())


@pytest.mark.parametrize("role", ["client", "peer", "admin", "orderer"])
def test_the_ou_of_a_certificate_gives_its_role(member: Member, registry: MspRegistry, role: str) -> None:
    identity = registry.validate(member.identity(role=role).serialized)
    assert (identity.msp_id, identity.roles) == (A, frozenset((role,)))


def certificate_of_role_that_nobody_knows(member: Member) -> bytes:
    return member.identity(role="auditor").serialized


def certificate_without_ou(member: Member) -> bytes:
    return member.identity(role="").serialized


def certificate_with_two_roles(member: Member) -> bytes:
    key = new_private_key()
    certificate = member.authority.issue("x", key.public_key(), organizational_units=["client", "peer"])
    return serialized(A, certificate_to_pem(certificate))


def certificate_of_another_authority(member: Member) -> bytes:
    other = CertificateAuthority.create("ca.other", "other")
    certificate = other.issue("x", new_private_key().public_key(), organizational_units=["client"])
    return serialized(A, certificate_to_pem(certificate))


def certificate_of_a_namesake_authority(member: Member) -> bytes:
    """The same name, another key."""
    other = CertificateAuthority.create(f"ca.{A}", A)
    certificate = other.issue("x", new_private_key().public_key(), organizational_units=["client"])
    return serialized(A, certificate_to_pem(certificate))


def the_authority_itself(member: Member) -> bytes:
    return serialized(A, member.authority.certificate_pem)


def certificate_of_the_tls_authority(member: Member) -> bytes:
    certificate = member.tls_authority.issue(
        "x", new_private_key().public_key(), purpose=Purpose.TLS, organizational_units=["client"]
    )
    return serialized(A, certificate_to_pem(certificate))


def identity_of_an_unknown_organization(member: Member) -> bytes:
    return serialized("Elsewhere", member.identity().certificate_pem)


def certificate_that_is_none(member: Member) -> bytes:
    return serialized(A, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def changed_certificate(member: Member) -> bytes:
    """One letter of the common name changed, so that the signature no longer holds."""
    import base64

    pem = member.identity("somebody").certificate_pem
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    forged = base64.encodebytes(der.replace(b"somebody", b"somebodx"))
    return serialized(A, b"-----BEGIN CERTIFICATE-----\n" + forged + b"-----END CERTIFICATE-----\n")


def certificate_of_an_unknown_kind_of_key(member: Member) -> bytes:
    import base64

    der = base64.b64decode(b"".join(member.identity().certificate_pem.splitlines()[1:-1]))
    p256, unknown = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d020b")
    pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der.replace(p256, unknown))
    return serialized(A, pem)


def no_identity_at_all(member: Member) -> bytes:
    return b"\xff\xff"


@pytest.mark.parametrize(
    "make",
    [
        certificate_of_role_that_nobody_knows,
        certificate_without_ou,
        certificate_with_two_roles,
        certificate_of_another_authority,
        certificate_of_a_namesake_authority,
        the_authority_itself,
        certificate_of_the_tls_authority,
        identity_of_an_unknown_organization,
        certificate_that_is_none,
        changed_certificate,
        certificate_of_an_unknown_kind_of_key,
        no_identity_at_all,
    ],
)
def test_who_the_organization_does_not_vouch_for_is_refused(
    member: Member, registry: MspRegistry, make: object
) -> None:
    assert callable(make)
    with pytest.raises(IdentityError):
        registry.validate(make(member))


def test_an_expired_certificate_is_refused_only_at_a_given_time(member: Member, registry: MspRegistry) -> None:
    old = member.identity(now=NOW - timedelta(days=3), not_after=NOW - timedelta(days=1)).serialized
    assert registry.validate(old).roles == {"client"}
    assert registry.validate(old, at=NOW - timedelta(days=2)).roles == {"client"}
    with pytest.raises(IdentityError, match="expired"):
        registry.validate(old, at=NOW)


def test_a_revoked_certificate_is_refused_once_the_list_is_there_and_accepted_when_it_goes(
    member: Member, registry: MspRegistry
) -> None:
    someone, other = member.identity(), member.identity()
    registry.validate(someone.serialized)
    assert not registry.reload_revocations()
    _write_crl(member, member.authority, someone)
    assert registry.reload_revocations()
    with pytest.raises(IdentityError, match="revoked"):
        registry.validate(someone.serialized)
    registry.validate(other.serialized)
    member.crl_file.unlink()
    assert registry.reload_revocations()
    registry.validate(someone.serialized)


def test_a_list_of_another_authority_revokes_nothing(member: Member, registry: MspRegistry) -> None:
    someone = member.identity()
    _write_crl(member, CertificateAuthority.create(f"ca.{A}", A), someone)
    assert registry.reload_revocations()
    registry.validate(someone.serialized)


def test_an_unreadable_list_leaves_the_one_before(
    member: Member, registry: MspRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    someone = member.identity()
    _write_crl(member, member.authority, someone)
    registry.reload_revocations()
    member.crl_file.write_bytes(b"half a fi")
    assert not registry.reload_revocations()
    assert "revocation list of HospitalA not read" in caplog.text
    with pytest.raises(IdentityError, match="revoked"):
        registry.validate(someone.serialized)


def _write_crl(member: Member, authority: CertificateAuthority, who: SigningIdentity) -> None:
    member.crl_file.parent.mkdir(exist_ok=True)
    member.crl_file.write_bytes(authority.crl([(who.identity.certificate.serial_number, NOW)]))


def test_a_signature_counts_once_made_over_these_bytes_in_its_low_form(member: Member, registry: MspRegistry) -> None:
    signer, other = member.identity(), member.identity()
    identity = registry.validate(signer.serialized)
    signature = signer.sign(b"message")
    for _ in range(2):
        assert registry.verify(identity, b"message", signature)
        assert not registry.verify(identity, b"messagf", signature)
        assert not registry.verify(identity, b"message", other.sign(b"message"))
        assert not registry.verify(identity, b"message", b"")
    r, s = decode_dss_signature(signature)
    assert not registry.verify(identity, b"message", encode_dss_signature(r, P256_ORDER - s))


def test_two_encodings_of_one_certificate_are_one_member(member: Member, registry: MspRegistry) -> None:
    someone = member.identity()
    respelled = serialized(A, b"\n" + someone.certificate_pem)
    assert registry.validate(someone.serialized).fingerprint == registry.validate(respelled).fingerprint


def test_an_intermediate_authority_may_issue_and_the_root_above_it_no_longer(tmp_path: Path) -> None:
    root = CertificateAuthority.create("root", A)
    intermediate = _intermediate(root)
    _write(tmp_path / "cacerts" / "root.pem", root.certificate_pem)
    _write(tmp_path / "intermediatecerts" / "ica.pem", intermediate.certificate_pem)
    ou = {"OrganizationalUnitIdentifier": "client", "Certificate": "intermediatecerts/ica.pem"}
    _write(tmp_path / "config.yaml", yaml.safe_dump({"NodeOUs": {"Enable": True, "ClientOUIdentifier": ou}}).encode())
    registry = MspRegistry.from_dirs({A: tmp_path})
    key = new_private_key().public_key()
    by_intermediate = intermediate.issue("x", key, organizational_units=["client"])
    by_root = root.issue("x", key, organizational_units=["client"])
    assert registry.validate(serialized(A, certificate_to_pem(by_intermediate))).roles == {"client"}
    with pytest.raises(IdentityError):
        registry.validate(serialized(A, certificate_to_pem(by_root)))


def test_an_ou_counts_only_from_the_authority_that_may_give_it(tmp_path: Path) -> None:
    first, second = (CertificateAuthority.create(name, A) for name in ("first", "second"))
    _write(tmp_path / "cacerts" / "first.pem", first.certificate_pem)
    _write(tmp_path / "cacerts" / "second.pem", second.certificate_pem)
    ou = {"OrganizationalUnitIdentifier": "peer", "Certificate": "cacerts/first.pem"}
    _write(tmp_path / "config.yaml", yaml.safe_dump({"NodeOUs": {"Enable": True, "PeerOUIdentifier": ou}}).encode())
    registry = MspRegistry.from_dirs({A: tmp_path})
    key = new_private_key().public_key()
    for authority, is_accepted in ((first, True), (second, False)):
        pem = certificate_to_pem(authority.issue("x", key, organizational_units=["peer"]))
        if is_accepted:
            assert registry.validate(serialized(A, pem)).roles == {"peer"}
        else:
            with pytest.raises(IdentityError, match="not issued by the authority that may give it"):
                registry.validate(serialized(A, pem))


def test_a_configuration_stands_for_the_folder_that_it_was_made_from(member: Member, registry: MspRegistry) -> None:
    someone = member.identity()
    _write_crl(member, member.authority, someone)
    registry.reload_revocations()
    fabric = msp_config_pb2.FabricMSPConfig.FromString(registry.msp(A).to_config().config)
    assert fabric.name == A
    assert fabric.fabric_node_ous.enable
    assert fabric.fabric_node_ous.peer_ou_identifier.organizational_unit_identifier == "peer"
    assert len(fabric.revocation_list) == 1


@pytest.mark.parametrize("broken", ["no authority", "garbled authority", "garbled NodeOUs", "missing NodeOU file"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, broken: str) -> None:
    authority = CertificateAuthority.create("ca", A)
    if broken != "no authority":
        pem = b"nothing" if broken == "garbled authority" else authority.certificate_pem
        _write(tmp_path / "cacerts" / "ca.pem", pem)
    if broken == "garbled NodeOUs":
        _write(tmp_path / "config.yaml", b"NodeOUs: [")
    if broken == "missing NodeOU file":
        ou = {"OrganizationalUnitIdentifier": "peer", "Certificate": "cacerts/none.pem"}
        _write(tmp_path / "config.yaml", yaml.safe_dump({"NodeOUs": {"Enable": True, "PeerOUIdentifier": ou}}).encode())
    with pytest.raises(MspError, match=str(tmp_path)):
        MspRegistry.from_dirs({A: tmp_path})


def _intermediate(root: CertificateAuthority) -> CertificateAuthority:
    from cryptography import x509

    key = ec.generate_private_key(ec.SECP256R1())
    leaf = root.issue("ica", key.public_key(), organization=A)
    skipped = x509.BasicConstraints
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .add_extension(skipped(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return CertificateAuthority(builder.sign(root.private_key, hashes.SHA256()), key)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

from pathlib import Path

import pytest
from hlf import certs, crypto
from hlf.identity import Identity, SigningIdentity
from hypothesis import given
from hypothesis import strategies as st
from support.hlf_blocks import new_member


@given(st.text(max_size=30), st.binary(max_size=100))
def test_an_identity_survives_serialization(msp_id: str, certificate: bytes) -> None:
    identity = Identity(msp_id, certificate)
    assert Identity.from_serialized(identity.serialized) == identity


def test_bytes_that_are_no_identity_are_refused() -> None:
    with pytest.raises(ValueError, match="not a serialized identity"):
        Identity.from_serialized(b"\xff\xff")


def test_an_identity_tells_name_and_attributes() -> None:
    member = new_member("HospitalA", "p-1", attributes={"emr.role": "patient"})
    assert member.identity.common_name == "p-1"
    assert member.identity.attributes == {"emr.role": "patient"}


def test_an_identity_verifies_what_its_key_signed() -> None:
    member = new_member()
    assert member.identity.verify(member.sign(b"m"), b"m")
    assert not member.identity.verify(new_member().sign(b"m"), b"m")


def test_an_identity_without_a_readable_certificate_verifies_nothing() -> None:
    assert not Identity("HospitalA", b"no certificate").verify(new_member().sign(b"m"), b"m")


def test_a_key_that_is_not_the_certificates_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        SigningIdentity("HospitalA", new_member().certificate_pem, crypto.new_private_key())


def test_neither_key_nor_certificate_is_shown() -> None:
    assert repr(new_member("HospitalA")) == "SigningIdentity(msp_id='HospitalA')"


def test_an_msp_folder_gives_the_key_of_its_certificate(tmp_path: Path) -> None:
    member = new_member()
    for name in ("signcerts", "keystore"):
        (tmp_path / name).mkdir()
    (tmp_path / "signcerts" / "cert.pem").write_bytes(member.certificate_pem)
    (tmp_path / "keystore" / "a_other_sk").write_bytes(crypto.private_key_to_pem(crypto.new_private_key()))
    with pytest.raises(FileNotFoundError, match="no key"):
        SigningIdentity.from_msp_dir(tmp_path, "HospitalA")
    (tmp_path / "keystore" / "b_sk").write_bytes(certs.private_key_to_pem(member.private_key))
    assert SigningIdentity.from_msp_dir(tmp_path, "HospitalA") == member
    (tmp_path / "signcerts" / "other.pem").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="exactly one"):
        SigningIdentity.from_msp_dir(tmp_path, "HospitalA")

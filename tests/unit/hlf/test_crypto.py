import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hlf import crypto
from hypothesis import given
from hypothesis import strategies as st

KEY = crypto.new_private_key()


@given(st.binary(max_size=200))
def test_every_signature_is_low_s_and_verifies(message: bytes) -> None:
    signature = crypto.sign(KEY, message)
    assert crypto.is_low_s(signature)
    assert crypto.verify(KEY.public_key(), signature, message)
    KEY.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))


@given(st.binary(max_size=200))
def test_signing_a_digest_is_signing_its_message(message: bytes) -> None:
    assert crypto.verify(KEY.public_key(), crypto.sign_digest(KEY, crypto.sha256(message)), message)


@given(st.binary(max_size=200))
def test_the_high_s_twin_of_a_signature_is_refused_and_corrected(message: bytes) -> None:
    low = crypto.sign(KEY, message)
    r, s = decode_dss_signature(low)
    high = encode_dss_signature(r, crypto.P256_ORDER - s)
    KEY.public_key().verify(high, message, ec.ECDSA(hashes.SHA256()))
    assert not crypto.verify(KEY.public_key(), high, message)
    assert crypto.to_low_s(high) == low


@given(st.binary(max_size=80))
def test_bytes_that_are_no_signature_do_not_verify(noise: bytes) -> None:
    assert not crypto.verify(KEY.public_key(), noise, b"message")


@given(st.binary(), st.binary())
def test_a_signature_verifies_its_own_message_only(signed: bytes, other: bytes) -> None:
    assert crypto.verify(KEY.public_key(), crypto.sign(KEY, signed), other) == (signed == other)


def test_another_key_does_not_verify() -> None:
    assert not crypto.verify(crypto.new_private_key().public_key(), crypto.sign(KEY, b"m"), b"m")


def test_openssl_accepts_our_signatures(tmp_path: Path) -> None:
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    (tmp_path / "message").write_bytes(b"to be signed")
    (tmp_path / "signature").write_bytes(crypto.sign(KEY, b"to be signed"))
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "message"]
    assert b"Verified OK" in subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="digest"):
        crypto.sign_digest(KEY, b"short")


def test_keys_of_other_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="P-256"):
        crypto.private_key_from_pem(crypto.private_key_to_pem(ec.generate_private_key(ec.SECP384R1())))


def test_a_private_key_survives_its_pem() -> None:
    restored = crypto.private_key_from_pem(crypto.private_key_to_pem(KEY))
    assert restored.private_numbers() == KEY.private_numbers()

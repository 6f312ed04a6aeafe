from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import pytest
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.sealing import ContentKey, SealingFailed, associated_data
from emr_model.clinical.sealed_form import unpack
from emr_model.ledger.codes import Code
from emr_registration.admission import Recognition, checked_demographics, public_key_hash, seal_demographics
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.crypto import public_key_to_der
from hypothesis import given
from hypothesis import strategies as st

EMR = "0123456789abcdef0123456789abcdef"
BEST, GOOD = "urn:best", "urn:good"
RECOGNITION = Recognition(b"k" * 32, (BEST, GOOD))


@dataclass(frozen=True)
class Place:
    """What sealing needs to know of the ledger."""

    channel: str = "care"
    msp_id: str = "HospitalA"


def patient(*identifiers: tuple[str, str], **members: Any) -> dict[str, Any]:
    entries = [{"system": system, "value": value} for system, value in identifiers]
    return {"resourceType": "Patient", "identifier": entries, **members}


def test_the_hospitals_best_system_counts_in_whatever_order_identifiers_stand() -> None:
    one = RECOGNITION.of(patient((GOOD, "7"), (BEST, "1"), ("urn:other", "9")))
    other = RECOGNITION.of(patient((BEST, "1"), (GOOD, "8")))
    assert one == other == RECOGNITION.of_identifier(BEST, "1")
    assert one != RECOGNITION.of(patient((GOOD, "7")))


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
    st.sampled_from(["", " ", "\t\n"]),
)
def test_spaces_around_an_identifier_make_no_other_person(value: str, space: str) -> None:
    try:
        known = RECOGNITION.of_identifier(BEST, value)
    except Problem:
        return  # nothing but space
    assert RECOGNITION.of_identifier(BEST, f"{space}{value}{space}") == known


def test_another_hospitals_key_gives_another_value() -> None:
    assert Recognition(b"l" * 32, (BEST,)).of_identifier(BEST, "1") != RECOGNITION.of_identifier(BEST, "1")


@pytest.mark.parametrize("unknown", [patient(), patient(("urn:other", "canary")), patient((BEST, " "))])
def test_who_cannot_be_recognized_is_refused_without_repeating_the_identifier(unknown: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refusal:
        RECOGNITION.of(unknown)
    assert refusal.value.code is Code.VALIDATION_FAILED
    assert "canary" not in str(refusal.value.document())


def test_sealed_demographics_open_in_their_place_to_what_was_sent() -> None:
    content = checked_demographics(patient((BEST, "1"), birthDate="1980-01-01"))
    key = ContentKey.generate()
    sealed = seal_demographics(cast(Ledger, Place()), key, content, EMR, 1)
    assert sealed.sha256 == hashlib.sha256(sealed.content).hexdigest()

    def opened(version: int) -> bytes:
        place = associated_data(
            channel="care", owner="HospitalA", recipient="HospitalA", kind="demographics", emr_id=EMR, version=version
        )
        return unpack(key.open(sealed.content, place), sealed.commitment).canonical

    assert opened(1) == content
    with pytest.raises(SealingFailed):
        opened(2)


def test_the_same_demographics_sealed_twice_have_nothing_in_common() -> None:
    content, key = checked_demographics(patient((BEST, "1"))), ContentKey.generate()
    one, other = (seal_demographics(cast(Ledger, Place()), key, content, EMR, 1) for _ in range(2))
    assert one.content != other.content
    assert one.commitment != other.commitment


def test_a_patient_key_is_the_hash_of_the_certificates_public_key() -> None:
    key = new_private_key()
    certificate = CertificateAuthority.create("ca", "a").issue("p-1", key.public_key())
    expected = hashlib.sha256(public_key_to_der(key.public_key())).hexdigest()
    assert public_key_hash(certificate_to_pem(certificate)) == expected

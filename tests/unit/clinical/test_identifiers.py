import unicodedata

import pytest
from emr_model.clinical.errors import IdentifierMissing
from emr_model.clinical.identifiers import identifiers_of, normalize, patient_identifier, recognized_identifier
from emr_model.clinical.note_id import background_note_id, encounter_note_id, typed_note_id
from hypothesis import given
from hypothesis import strategies as st

KEY = b"k" * 32
PATIENT = "0" * 32


@given(st.text(max_size=20))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.text(min_size=1, max_size=20).filter(lambda text: normalize(text) != ""))
def test_an_identifier_is_recognized_however_it_was_typed(value: str) -> None:
    typed = patient_identifier("urn:s", f"  {unicodedata.normalize('NFD', value)}\t")
    assert typed.hmac(KEY) == patient_identifier(" urn:s ", value).hmac(KEY)


def test_the_hospitals_first_system_decides() -> None:
    patient = {
        "identifier": [
            {"system": "urn:b", "value": "2"},
            {"system": "urn:a", "value": " 1 "},
            {"system": "urn:a", "value": "9"},
        ]
    }
    found = recognized_identifier(patient, ["urn:none", "urn:a", "urn:b"])
    assert (found.system, found.value) == ("urn:a", "1")


@pytest.mark.parametrize(
    "identifiers",
    [
        None,
        "x",
        {},
        [None],
        ["x"],
        [{}],
        [{"system": "urn:a"}],
        [{"system": "urn:a", "value": " "}],
        [{"system": 1, "value": 2}],
    ],
)
def test_a_patient_without_a_usable_identifier_is_not_recognized(identifiers: object) -> None:
    with pytest.raises(IdentifierMissing):
        recognized_identifier({"identifier": identifiers}, ["urn:a"])


def test_an_empty_identifier_is_none() -> None:
    with pytest.raises(IdentifierMissing):
        patient_identifier("urn:a", "\u3000")


def test_an_hmac_depends_on_key_system_and_value() -> None:
    one = patient_identifier("urn:a", "1")
    others = [
        patient_identifier("urn:a", "2").hmac(KEY),
        patient_identifier("urn:b", "1").hmac(KEY),
        one.hmac(b"j" * 32),
    ]
    assert one.hmac(KEY) not in others
    assert len(one.hmac(KEY)) == 32


def test_identifiers_never_show_in_a_representation() -> None:
    assert "MRN-1" not in repr(next(identifiers_of({"identifier": [{"system": "urn:a", "value": "MRN-1"}]})))


def test_note_ids_are_128_bits_and_repeatable() -> None:
    one = encounter_note_id(KEY, PATIENT, "urn:s|1")
    assert len(one) == 32
    assert bytes.fromhex(one)
    assert one == encounter_note_id(KEY, PATIENT, "urn:s|1")


def test_note_ids_differ_by_patient_key_kind_caller_and_request() -> None:
    ids = [
        encounter_note_id(KEY, PATIENT, "x"),
        encounter_note_id(KEY, "1" * 32, "x"),
        encounter_note_id(b"j" * 32, PATIENT, "x"),
        background_note_id(KEY, PATIENT, b"x"),
        background_note_id(KEY, PATIENT, b"y"),
        typed_note_id(KEY, PATIENT, "d-1", "key-1"),
        typed_note_id(KEY, PATIENT, "d-1", "key-2"),
        typed_note_id(KEY, PATIENT, "d-2", "key-1"),
        typed_note_id(KEY, PATIENT, "d-1k", "ey-1"),
    ]
    assert len(set(ids)) == len(ids)

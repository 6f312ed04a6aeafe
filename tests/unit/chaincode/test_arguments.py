"""Hostile input: whatever is not exactly of its form is refused, and never repeated."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from emr_chaincode.arguments import LARGEST_SEALED, Arguments, encode_bookmark
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.refusals import Refused
from hypothesis import given
from hypothesis import strategies as st

ID, DIGEST = "0123456789abcdef" * 2, "0123456789abcdef" * 4


def arguments(function: Function, *given_: str | bytes, transient: dict[str, bytes] | None = None) -> Arguments:
    encoded = [item.encode() if isinstance(item, str) else item for item in given_]
    return Arguments(function.spec, encoded, transient or {})


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.code is Code.ARGUMENT_INVALID
    return caught.value.message


BAD_IDENTIFIERS = [
    "",
    ID[:-1],
    ID + "0",
    ID.upper(),
    ID[:-1] + "g",
    ID + "\n",
    ID[:-1] + "\x00",
    ID[:-1] + "\U0010ffff",
    "٠" * 32,
    "../" + ID[3:],
]


@pytest.mark.parametrize("text", BAD_IDENTIFIERS)
def test_an_identifier_is_thirty_two_hex_digits(text: str) -> None:
    given_ = arguments(Function.GET_EMR_BY_PATIENT_ID, text)
    refused(lambda: given_.identifier("patientId"))


@given(st.text())
def test_a_refusal_never_repeats_the_argument(text: str) -> None:
    given_ = arguments(Function.GET_EMR_BY_PATIENT_ID, "canary" + text)
    assert "canary" not in refused(lambda: given_.identifier("patientId"))


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1\n", "99999999999", "9999999999", "٣", "0x1", "NaN"]
)
def test_a_number_is_plain_digits(text: str) -> None:
    given_ = arguments(Function.APPROVE_EMR_SHARING, "B", text)
    refused(lambda: given_.number("version"))


@pytest.mark.parametrize("text", ["True", "TRUE", "1", "yes", "", "true "])
def test_a_flag_is_true_or_false(text: str) -> None:
    given_ = arguments(Function.ADD_EMR_NOTE, ID, "0", ID, text, DIGEST, DIGEST, transient={"note": b"x"})
    refused(lambda: given_.flag("isVisit"))


@pytest.mark.parametrize("text", ["treat", "TREATMENT", "", "RESEARCH", "TREAT\x00"])
def test_a_purpose_is_a_code_of_the_value_set(text: str) -> None:
    given_ = arguments(Function.GET_SHARED_EMR, "A", ID, text)
    refused(lambda: given_.purpose("purpose"))


@pytest.mark.parametrize("text", ["", "A\x00B", "A~B", "a b", "-A", "A" * 129, "Hôpital", "A\n"])
def test_an_msp_id_is_a_plain_word(text: str) -> None:
    given_ = arguments(Function.REMOVE_EMR_SHARING, text)
    refused(lambda: given_.msp_id("recipientMsp"))


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_the_number_of_arguments_is_checked(count: int) -> None:
    refused(lambda: arguments(Function.AUTHORIZE_EMR_READING, *["x"] * count))


def test_optional_arguments_may_be_left_out_or_empty() -> None:
    assert arguments(Function.GET_OWN_EMR).optional_number("fromVersion", 1, largest=9) == 1
    assert arguments(Function.GET_OWN_EMR, "", "").optional_number("limit", 7, largest=9) == 7
    assert arguments(Function.APPROVE_EMR_SHARING, "B", "0").optional_timestamp("expiresAt") is None
    assert arguments(Function.LIST_PURGEABLE_SNAPSHOTS).optional_identifier("emrId") is None


def test_an_argument_that_is_not_utf8_or_too_large_is_refused() -> None:
    refused(lambda: arguments(Function.GET_EMR_BY_PATIENT_ID, b"\xff"))
    refused(lambda: arguments(Function.GET_EMR_BY_PATIENT_ID, b"\xed\xa0\x80"))
    refused(lambda: arguments(Function.GET_EMR_BY_PATIENT_ID, b"x" * 65_537))


@pytest.mark.parametrize("transient", [{}, {"notes": b"x"}, {"note": b"x", "more": b"y"}, {"demographics": b"x"}])
def test_transient_data_is_exactly_what_the_function_takes(transient: dict[str, bytes]) -> None:
    refused(lambda: arguments(Function.ADD_EMR_NOTE, ID, "0", ID, "true", DIGEST, DIGEST, transient=transient))


def test_a_function_without_transient_data_takes_none() -> None:
    refused(lambda: arguments(Function.REQUEST_ERASURE, transient={"note": b"x"}))


@pytest.mark.parametrize("content", [b"", b"x" * (LARGEST_SEALED["note"] + 1)])
def test_sealed_content_has_a_size(content: bytes) -> None:
    given_ = arguments(Function.ADD_EMR_NOTE, ID, "0", ID, "true", DIGEST, DIGEST, transient={"note": content})
    refused(lambda: given_.sealed("note", hashlib.sha256(content).hexdigest()))


def test_sealed_content_is_what_its_digest_says() -> None:
    given_ = arguments(Function.ADD_EMR_NOTE, ID, "0", ID, "true", DIGEST, DIGEST, transient={"note": b"x"})
    assert given_.sealed("note", hashlib.sha256(b"x").hexdigest()) == b"x"
    refused(lambda: given_.sealed("note", DIGEST))


KEYSET = base64.b64encode(b"keyset").decode()
PROFILE: dict[str, Any] = {"name": "Hospital A", "sealingKeys": [{"id": "k1", "keyset": KEYSET}]}


def profile_with(**changes: object) -> str:
    return json.dumps({**PROFILE, **changes})


def test_a_profile_is_read() -> None:
    profile = arguments(Function.REGISTER_ORGANIZATION, json.dumps(PROFILE)).profile("profile")
    assert (profile.name, profile.sealing_keys[0].id) == ("Hospital A", "k1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        profile_with(name=""),
        profile_with(name=" A"),
        profile_with(name="A\nB"),
        profile_with(name="A" * 201),
        profile_with(name=5),
        profile_with(owner="x"),
        profile_with(sealingKeys=[]),
        profile_with(sealingKeys=PROFILE["sealingKeys"] * 2),
        profile_with(sealingKeys=[{"id": f"k{n}", "keyset": KEYSET} for n in range(17)]),
        profile_with(sealingKeys=[{"id": "k 1", "keyset": KEYSET}]),
        profile_with(sealingKeys=[{"id": "k1", "keyset": "not base64"}]),
        profile_with(sealingKeys=[{"id": "k1", "keyset": ""}]),
        profile_with(sealingKeys=[{"id": "k1", "keyset": base64.b64encode(b"x" * 5000).decode()}]),
        profile_with(sealingKeys=[{"id": "k1", "keyset": KEYSET, "private": KEYSET}]),
    ],
)
def test_a_malformed_profile_is_refused(text: str) -> None:
    given_ = arguments(Function.REGISTER_ORGANIZATION, text)
    refused(lambda: given_.profile("profile"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '["1~1", "1~1"]',
        '["0~1"]',
        '["1~01"]',
        '["1"]',
        "[1]",
        '["1~1~1"]',
        '["1~99999999999"]',
        json.dumps([f"1~{n}" for n in range(201)]),
    ],
)
def test_a_malformed_list_of_snapshots_is_refused(text: str) -> None:
    given_ = arguments(Function.PURGE_SNAPSHOTS, ID, text)
    refused(lambda: given_.snapshots("snapshots"))


def test_snapshots_are_sharing_and_version() -> None:
    given_ = arguments(Function.PURGE_SNAPSHOTS, ID, '["1~0","2~15"]')
    assert given_.snapshots("snapshots") == ((1, 0), (2, 15))


@pytest.mark.parametrize(
    "text", ["", ID, f"{ID}.", f"{ID}.{DIGEST}0", f"{ID}~{DIGEST}", f"{ID.upper()}.{DIGEST}", f".{DIGEST}"]
)
def test_a_malformed_receipt_is_refused(text: str) -> None:
    given_ = arguments(Function.READ_SHARED_EMR, text)
    refused(lambda: given_.receipt("receipt"))


def test_a_bookmark_stays_within_its_list() -> None:
    def bookmark(key: str) -> Arguments:
        return arguments(Function.GET_OWN_DISCLOSURES, "10", encode_bookmark(key))

    assert bookmark("\x00d\x00e\x00f\x00").bookmark("\x00d\x00e\x00") == "\x00d\x00e\x00f\x00"
    refused(lambda: bookmark("\x00d\x00a\x00").bookmark("\x00d\x00e\x00"))
    refused(lambda: arguments(Function.GET_OWN_DISCLOSURES, "10", "%%%").bookmark(""))


@pytest.mark.parametrize("text", ["0", "1001", "-1", "x"])
def test_a_page_has_a_size(text: str) -> None:
    refused(arguments(Function.GET_OWN_DISCLOSURES, text).page_size)

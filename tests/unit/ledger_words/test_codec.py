"""Values become JSON and come back, and nothing else is read as one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from emr_model.ledger import answers, values
from emr_model.ledger.codec import JsonValue, ValueMalformed, format_timestamp, parse, parse_timestamp
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.sharing import SharingState, Side
from hypothesis import given
from hypothesis import strategies as st

MOMENTS = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
st.register_type_strategy(datetime, MOMENTS)

VALUES = [
    values.Organization,
    values.OrganizationProfile,
    values.Emr,
    values.EmrOf,
    values.Note,
    values.NoteVersion,
    values.Access,
    values.End,
    values.LifeState,
    values.Disclosure,
    answers.EmrView,
    answers.SharingView,
    answers.SharedEmr,
    answers.Receipt,
    answers.PurgeableList,
    answers.DisclosureList,
    answers.Nothing,
]


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_survives_its_json(kind: type[JsonValue]) -> None:
    @given(st.from_type(kind))
    def check(value: JsonValue) -> None:
        assert kind.from_json(value.to_json()) == value

    check()


@given(st.builds(values.Disclosure))
def test_equal_values_are_equal_bytes_whatever_their_time_zone(value: values.Disclosure) -> None:
    elsewhere = values.Disclosure(
        value.recipient_msp,
        value.sharing,
        value.version,
        value.reader,
        value.purpose,
        value.at.astimezone(timezone(timedelta(hours=2))),
    )
    same = values.Disclosure(value.recipient_msp, value.sharing, value.version, value.reader, value.purpose, value.at)
    assert elsewhere.to_json() == same.to_json()


def test_names_are_camel_case_and_keys_are_sorted() -> None:
    text = values.NoteVersion(3).to_json()
    assert text == b'{"event":"note-added","version":3}'
    assert b'"recipientKeyId"' in values.OwnerApproval("x", 1, "k", datetime.now(UTC)).to_json()


NOTE_VERSION = {"event": "note-added", "version": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        "{",
        '{"version": 3, "version": 3}',
        json.dumps({**NOTE_VERSION, "more": 1}),
        json.dumps({"event": "note-added"}),
        json.dumps({**NOTE_VERSION, "version": "3"}),
        json.dumps({**NOTE_VERSION, "version": 3.0}),
        json.dumps({**NOTE_VERSION, "version": True}),
        json.dumps({**NOTE_VERSION, "version": None}),
        json.dumps({**NOTE_VERSION, "event": "note-taken"}),
        '{"event": "note-added", "version": NaN}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_not_the_value_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueMalformed):
        values.NoteVersion.from_json(text)


def test_a_refusal_names_the_member_and_never_its_value() -> None:
    with pytest.raises(ValueMalformed) as caught:
        values.NoteVersion.from_json('{"version": "canary"}')
    assert "version" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_member_with_a_default_may_be_missing() -> None:
    assert values.NoteVersion.from_json('{"version": 1}') == values.NoteVersion(1)


@given(MOMENTS)
def test_a_timestamp_survives_and_its_text_sorts_as_time_does(moment: datetime) -> None:
    assert parse_timestamp(format_timestamp(moment)) == moment
    assert format_timestamp(moment) < format_timestamp(moment + timedelta(microseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05.1234567Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T25:04:05Z",
        "2026-01-02T03:04:05Z ",
        "٢٠٢٦-01-02T03:04:05Z",
    ],
)
def test_other_timestamps_are_refused(text: str) -> None:
    with pytest.raises(ValueMalformed):
        parse_timestamp(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.booleans(), st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_json_in_any_form_is_read_as_the_standard_library_does(
    value: object, is_ascii: bool, is_sorted: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, sort_keys=is_sorted, separators=separators)
    assert repr(parse(text)) == repr(json.loads(text))
    assert repr(parse(text.encode())) == repr(json.loads(text))


@given(st.binary())
def test_arbitrary_bytes_are_json_or_refused(text: bytes) -> None:
    try:
        parse(text)
    except ValueMalformed:
        return


def test_a_class_without_a_json_form_is_told_at_once() -> None:
    @dataclass(frozen=True, slots=True)
    class Odd(JsonValue):
        weight: complex

    with pytest.raises(TypeError):
        Odd.from_json("{}")


def test_enumerations_of_answers_are_read_by_their_values() -> None:
    assert SharingState("awaiting_owner") is SharingState.AWAITING_OWNER
    assert Side("patient") is Side.PATIENT
    assert Purpose("TREAT") is Purpose.TREATMENT

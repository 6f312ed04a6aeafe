from __future__ import annotations

import base64
from typing import Any

import pytest
from emr_model.clinical.canonical import canonical_bytes, parse_object
from emr_model.clinical.facts import searchable_text, searchable_text_of
from hypothesis import given
from hypothesis import strategies as st


def _note(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}


def _attachment(data: str) -> dict[str, Any]:
    content = [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": data}}]
    return {"resourceType": "DocumentReference", "content": content}


def test_what_people_say_is_found_and_what_machines_say_is_not() -> None:
    condition = {
        "resourceType": "Condition",
        "id": "c0ffee",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertension"}]},
        "note": [{"text": "since long"}],
        "text": {"status": "generated", "div": "<div>in <b>words</b></div>"},
    }
    text = searchable_text(_note(condition, _attachment(base64.b64encode("Fühlt sich wohl.".encode()).decode())))
    for word in ("Hypertension", "since long", "words", "Fühlt sich wohl."):
        assert word in text
    for word in ("c0ffee", "snomed", "38341003", "<b>", "generated"):
        assert word not in text


@pytest.mark.parametrize("data", ["no base64!", base64.b64encode(b"\xff\xfe").decode(), "AAAA"])
def test_an_attachment_that_is_no_text_does_no_harm(data: str) -> None:
    assert "\0" not in searchable_text(_note(_attachment(data)))


@pytest.mark.parametrize("strange", [{}, {"entry": None}, {"entry": [1, "x", {"resource": []}]}, {"display": 7}])
def test_a_strange_note_has_no_words(strange: dict[str, Any]) -> None:
    assert searchable_text(strange) == ""


NAMES = st.sampled_from(["text", "display", "div", "contentType", "data", "code", 'a "text":"b', "title"])
STRINGS = st.sampled_from(["", "words", "text/plain", "QUFB", 'said "text":"no"', "back\\slash", "<b>bold</b>", "Ü\n"])
NOTES = st.dictionaries(
    NAMES,
    st.recursive(
        STRINGS | st.none() | st.integers(-(10**60), 10**60),  # longer numbers no note has
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


@given(NOTES)
def test_the_words_of_canonical_text_are_those_of_the_note(note: dict[str, Any]) -> None:
    canonical = canonical_bytes(note)
    parsed = parse_object(canonical)
    assert searchable_text_of(canonical.decode(), parsed) == searchable_text(parsed)

import json
from decimal import Decimal
from typing import Any

import pytest
from emr_model.clinical.canonical import canonical_bytes, parse, parse_object, parse_texts
from emr_model.clinical.errors import CanonicalJsonError
from emr_model.clinical.limits import JSON_MAX_DEPTH, JSON_MAX_ITEMS, JSON_MAX_MEMBERS
from hypothesis import given
from hypothesis import strategies as st

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
number = st.integers(-(10**30), 10**30) | st.decimals(
    allow_nan=False, allow_infinity=False, places=6, min_value=-1e9, max_value=1e9
)
scalar = st.none() | st.booleans() | text | number
json_value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=25
)


def typed(value: Any) -> Any:
    """A value that is only equal when types, digits and key order say so too: ``Decimal('1.0') == 1`` in Python."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, str(value)


@given(json_value)
def test_a_canonical_form_reads_back_as_the_same_value_digit_by_digit(value: Any) -> None:
    again = parse(canonical_bytes(value))
    assert typed(again) == typed(_as_parsed(value))


@given(json_value)
def test_a_canonical_form_is_its_own_canonical_form(value: Any) -> None:
    once = canonical_bytes(value)
    assert canonical_bytes(parse(once)) == once


@given(st.dictionaries(text, json_value, max_size=4))
def test_texts_are_read_the_quick_way_as_they_are_the_strict_way(value: dict[str, Any]) -> None:
    written = canonical_bytes(value)
    assert _without_numbers(parse_texts(written)) == _without_numbers(parse_object(written))


@given(json_value)
def test_a_canonical_form_is_json_to_everyone_else_too(value: Any) -> None:
    other = json.loads(canonical_bytes(value), parse_float=Decimal)
    assert typed(other) == typed(_as_parsed(value))


@given(st.dictionaries(text, json_value, max_size=6), st.randoms(use_true_random=False))
def test_neither_the_order_of_keys_nor_white_space_changes_it(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    shuffled = {key: value[key] for key in keys}
    spaced = json.dumps(json.loads(canonical_bytes(shuffled).decode()), indent=3) if _without_fractions(value) else None
    assert canonical_bytes(shuffled) == canonical_bytes(value)
    assert spaced is None or canonical_bytes(parse(spaced.encode())) == canonical_bytes(value)


@given(st.dictionaries(text, st.none(), max_size=8))
def test_keys_stand_in_the_order_of_their_utf8_bytes(value: dict[str, None]) -> None:
    keys = list(parse_object(canonical_bytes(value)))
    assert keys == sorted(keys, key=lambda key: key.encode())


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1.0", "1.0"),
        ("1.00", "1.00"),
        ("1", "1"),
        ("-0", "-0"),
        ("-0.0", "-0.0"),
        ("161.5058979616663", "161.5058979616663"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("1e2", "1E+2"),
        ("1E+2", "1E+2"),
        ("1.50e3", "1.50E+3"),
        ('"\\u00e9"', '"é"'),
        ('"\\ud83d\\ude00"', '"😀"'),
        ('"\\/\\u001f\\n\\t"', '"/\\u001f\\n\\t"'),
        ('{ "b" : [ ] , "a" : { } }', '{"a":{},"b":[]}'),
        ("[1,2, 1]", "[1,2,1]"),
    ],
)
def test_what_is_written_becomes_one_form(written: str, canonical: str) -> None:
    assert canonical_bytes(parse(written.encode())) == canonical.encode()


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xef\xbb\xbf{}",
        b"{",
        b"{} {}",
        b"'a'",
        b"[1,]",
        b"[01]",
        b"[.5]",
        b"[+1]",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"\\u0061":2}}',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"\\ud800":1}',
        b'"\\u0000"',
        b'{"a\\u0000":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\x01"',
        b"1e401",
        b"1e-401",
        b"1E999999999999999999999",
        b"0e999999",
        b"9" * 65,
        b"1." + b"0" * 64,
        b"[" * (JSON_MAX_DEPTH + 1) + b"]" * (JSON_MAX_DEPTH + 1),
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda value: repr(value[:24]),
)
def test_json_of_a_loose_kind_is_refused(hostile: bytes) -> None:
    with pytest.raises(CanonicalJsonError):
        parse(hostile)
    with pytest.raises(CanonicalJsonError):
        parse_texts(b'{"":' + hostile + b"}")


def test_nesting_up_to_the_limit_is_read() -> None:
    data = b"[" * JSON_MAX_DEPTH + b"]" * JSON_MAX_DEPTH
    assert canonical_bytes(parse(data)) == data


@pytest.mark.parametrize(
    "value", [1.0, float("nan"), Decimal("NaN"), Decimal("Infinity"), b"x", {1: 2}, "\ud800", {"\udfff": 1}, (1,)]
)
def test_a_value_without_a_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(CanonicalJsonError):
        canonical_bytes(value)


def test_only_an_object_is_an_object() -> None:
    with pytest.raises(CanonicalJsonError, match="not a JSON object"):
        parse_object(b"[]")


def test_a_refusal_never_repeats_what_was_sent() -> None:
    for data in (b'{"SECRET": SECRET}', b'{"SECRET":1,"SECRET":2}', b"[SECRET]"):
        with pytest.raises(CanonicalJsonError) as refusal:
            parse(data)
        assert "SECRET" not in str(refusal.value)


def _as_parsed(value: Any) -> Any:
    """Strategy values as the parser types them: a Decimal written without fraction or exponent reads as an int."""
    if isinstance(value, dict):
        return {key: _as_parsed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_parsed(item) for item in value]
    if isinstance(value, Decimal) and str(value).lstrip("-").isdigit():
        return int(value)
    return value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    return value if value is None or isinstance(value, (str, bool)) else "a number"


def _without_fractions(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return all(_without_fractions(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, Decimal)


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        (b"[" + b",".join([b"1"] * JSON_MAX_ITEMS) + b"]", True),
        (b"[" + b",".join([b"1"] * (JSON_MAX_ITEMS + 1)) + b"]", False),
        (b"{" + b",".join(b'"%d":1' % n for n in range(JSON_MAX_MEMBERS)) + b"}", True),
        (b"{" + b",".join(b'"%d":1' % n for n in range(JSON_MAX_MEMBERS + 1)) + b"}", False),
    ],
    ids=["items at the limit", "an item more", "members at the limit", "a member more"],
)
def test_an_object_or_array_has_a_longest(text: bytes, is_taken: bool) -> None:
    if is_taken:
        parse(text)
        parse_texts(b'{"":' + text + b"}")
    else:
        for read in (parse, lambda data: parse_texts(b'{"":' + data + b"}")):
            with pytest.raises(CanonicalJsonError, match="too long"):
                read(text)

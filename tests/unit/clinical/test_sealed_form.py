import hashlib
import zlib

import pytest
from emr_model.clinical.errors import CommitmentMismatch, ContentTooLarge, SealedFormInvalid
from emr_model.clinical.sealed_form import SALT_BYTES, inflate, pack, unpack
from hypothesis import given
from hypothesis import strategies as st

SALT = bytes(range(SALT_BYTES))


@given(st.binary(max_size=5000))
def test_what_was_packed_is_opened_and_verified(content: bytes) -> None:
    packed = pack(content)
    assert unpack(packed.plaintext, packed.commitment).canonical == content


def test_the_form_is_format_salt_and_compressed_content() -> None:
    packed = pack(b"{}", salt=SALT)
    assert packed.plaintext == b"\x01" + SALT + zlib.compress(b"{}", 9)
    assert packed.commitment == hashlib.sha256(SALT + b"{}").hexdigest()


def test_equal_content_has_another_commitment_every_time() -> None:
    assert pack(b"{}").commitment != pack(b"{}").commitment


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    packed = pack(b'{"resourceType":"Bundle"}', salt=SALT)
    position = data.draw(st.integers(0, len(packed.plaintext) - 1))
    changed = bytearray(packed.plaintext)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        opened = unpack(bytes(changed), packed.commitment).canonical
    except (CommitmentMismatch, ContentTooLarge, SealedFormInvalid):
        return
    # some bits of zlib's framing carry nothing: what comes out is then what was committed to
    assert opened == b'{"resourceType":"Bundle"}'


def test_other_content_under_the_same_commitment_is_refused() -> None:
    packed, other = pack(b"{}", salt=SALT), pack(b"[]", salt=SALT)
    with pytest.raises(CommitmentMismatch):
        unpack(other.plaintext, packed.commitment)


@pytest.mark.parametrize(
    "plaintext", [b"", b"\x01", b"\x01" + SALT, b"\x02" + SALT + zlib.compress(b"{}"), b"\x01" + SALT + b"xx"]
)
def test_bytes_in_no_known_form_are_refused(plaintext: bytes) -> None:
    with pytest.raises(SealedFormInvalid):
        unpack(plaintext, "0" * 64)


def test_content_over_the_limit_is_neither_packed_nor_inflated() -> None:
    with pytest.raises(ContentTooLarge):
        pack(b"x" * 11, limit=10)
    bomb = b"\x01" + SALT + zlib.compress(b"0" * 50_000_000)
    with pytest.raises(ContentTooLarge):
        unpack(bomb, "0" * 64)


def test_inflating_stops_at_the_limit_exactly() -> None:
    assert inflate(zlib.compress(b"x" * 10), 10) == b"x" * 10
    with pytest.raises(ContentTooLarge):
        inflate(zlib.compress(b"x" * 11), 10)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data + data])
def test_a_stream_cut_off_or_continued_is_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(SealedFormInvalid):
        inflate(change(zlib.compress(b"content")), 100)

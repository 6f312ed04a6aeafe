from __future__ import annotations

import secrets
from itertools import product
from pathlib import Path

import pytest
from emr_common.emr_keys import EmrKeyMissing, EmrKeys
from emr_common.sealing import (
    ContentKey,
    SealingFailed,
    SealingPrivateKey,
    SealingPublicKey,
    WrappingKey,
    associated_data,
    new_wrapping_keyset,
    read_keyset,
)
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

EMR = "0123456789abcdef0123456789abcdef"
PLACE = {
    "channel": "care",
    "owner": "HospitalA",
    "recipient": "HospitalA",
    "kind": "note",
    "emr_id": EMR,
    "version": 3,
}


def place(**changed: object) -> bytes:
    return associated_data(**{**PLACE, **changed})  # type: ignore[arg-type]


def test_associated_data_is_canonical_json() -> None:
    assert place() == (
        b'{"channel":"care","emrId":"0123456789abcdef0123456789abcdef","kind":"note",'
        b'"owner":"HospitalA","recipient":"HospitalA","version":3}'
    )


@given(st.binary(max_size=5000))
def test_what_is_sealed_opens_to_the_same_bytes(content: bytes) -> None:
    key = ContentKey.generate()
    assert key.open(key.seal(content, place()), place()) == content


ELSEWHERE = {
    "channel": "other",
    "owner": "HospitalB",
    "recipient": "HospitalB",
    "kind": "demographics",
    "emr_id": "f" * 32,
    "version": 4,
}


@pytest.mark.parametrize("moved", ELSEWHERE)
def test_sealed_bytes_do_not_open_in_another_place(moved: str) -> None:
    key, recipient = ContentKey.generate(), SealingPrivateKey.generate()
    elsewhere = place(**{moved: ELSEWHERE[moved]})
    with pytest.raises(SealingFailed):
        key.open(key.seal(b"content", place()), elsewhere)
    with pytest.raises(SealingFailed):
        recipient.open(SealingPublicKey(recipient.public_keyset()).seal(b"content", place()), elsewhere)


def test_no_other_key_opens_what_one_sealed() -> None:
    sealed = ContentKey.generate().seal(b"content", place())
    with pytest.raises(SealingFailed):
        ContentKey.generate().open(sealed, place())


@pytest.mark.parametrize("at", [0, 5, 20, -1])
def test_one_changed_bit_is_noticed(at: int) -> None:
    key = ContentKey.generate()
    sealed = bytearray(key.seal(b"content", place()))
    sealed[at] ^= 1
    with pytest.raises(SealingFailed):
        key.open(bytes(sealed), place())


def test_a_snapshot_opens_for_its_recipient_only(tmp_path: Path) -> None:
    (tmp_path / "private").write_text(SealingPrivateKey.generate().serialized())
    recipient, stranger = SealingPrivateKey.from_file(tmp_path / "private"), SealingPrivateKey.generate()
    sealed = SealingPublicKey(recipient.public_keyset()).seal(b"snapshot", place(kind="snapshot"))
    assert recipient.open(sealed, place(kind="snapshot")) == b"snapshot"
    with pytest.raises(SealingFailed):
        stranger.open(sealed, place(kind="snapshot"))


@pytest.mark.parametrize(
    "published", [b"", b"\x00\x01", b"not a keyset", pytest.param(secrets.token_bytes(100), id="random")]
)
def test_what_is_no_public_keyset_is_refused(published: bytes) -> None:
    with pytest.raises(SealingFailed):
        SealingPublicKey(published)


def test_a_secret_keyset_is_refused_as_a_public_one() -> None:
    from tink import proto_keyset_format, secret_key_access

    secret = proto_keyset_format.serialize(SealingPrivateKey.generate()._handle, secret_key_access.TOKEN)
    with pytest.raises(SealingFailed):
        SealingPublicKey(secret)


@pytest.mark.parametrize("keyset", ["", "not base64!", "é"])
def test_a_published_key_that_is_no_base64_is_refused(keyset: str) -> None:
    with pytest.raises(SealingFailed):
        SealingPublicKey.from_base64(keyset)


def test_a_damaged_keyset_file_is_an_error_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "keyset").write_text(new_wrapping_keyset()[:-20])
    with pytest.raises(SealingFailed) as failure:
        read_keyset(tmp_path / "keyset")
    assert failure.value.__cause__ is None


def test_a_wrapped_key_is_bound_to_its_emr(wrapping: WrappingKey) -> None:
    key = ContentKey.generate()
    wrapped = wrapping.wrap(key, EMR)
    assert wrapping.unwrap(wrapped, EMR).open(key.seal(b"content", place()), place()) == b"content"
    with pytest.raises(SealingFailed):
        wrapping.unwrap(wrapped, "f" * 32)


@pytest.mark.parametrize(("use", "name"), list(product(["wallet-key", "other"], ["p-1", "p-2"]))[1:])
def test_a_small_secret_is_bound_to_its_use_and_name(wrapping: WrappingKey, use: str, name: str) -> None:
    sealed = wrapping.seal(b"secret", "wallet-key", "p-1")
    assert wrapping.open(sealed, "wallet-key", "p-1") == b"secret"
    with pytest.raises(SealingFailed):
        wrapping.open(sealed, use, name)


async def test_an_emr_key_is_made_once(engine: AsyncEngine, wrapping: WrappingKey) -> None:
    emr_id, keys = secrets.token_hex(16), EmrKeys(engine, wrapping)
    async with engine.begin() as connection:
        first = await keys.create(connection, emr_id)
    async with engine.begin() as connection:
        again = await keys.create(connection, emr_id)
    sealed = first.seal(b"content", place())
    assert again.open(sealed, place()) == (await keys.get(emr_id)).open(sealed, place()) == b"content"


async def test_a_destroyed_key_is_gone_at_once_for_every_instance(engine: AsyncEngine, wrapping: WrappingKey) -> None:
    emr_id = secrets.token_hex(16)
    here, elsewhere = EmrKeys(engine, wrapping), EmrKeys(engine, wrapping)
    async with engine.begin() as connection:
        await here.create(connection, emr_id)
    await elsewhere.get(emr_id)
    async with engine.begin() as connection:
        await here.destroy(connection, emr_id)
    for keys in (here, elsewhere):
        with pytest.raises(EmrKeyMissing):
            await keys.get(emr_id)


async def test_a_transaction_that_is_rolled_back_leaves_no_key(engine: AsyncEngine, wrapping: WrappingKey) -> None:
    emr_id, keys = secrets.token_hex(16), EmrKeys(engine, wrapping)
    async with engine.connect() as connection:
        await keys.create(connection, emr_id)
        await connection.rollback()
    with pytest.raises(EmrKeyMissing):
        await keys.get(emr_id)

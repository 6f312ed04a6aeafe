"""The ledger in the contract's words: typed values under typed keys."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from emr_model.ledger import keys
from emr_model.ledger.codec import JsonValue, ValueMalformed
from emr_model.ledger.codes import Code
from emr_model.ledger.keys import Key
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import Access, Emr, EmrOf, End, Life, LifeState
from hlf.chaincode import Page, PeerRefused, Stub, composite_key
from hlf.policies import signature_policy

from emr_chaincode import rules, sharing_rules

Value = TypeVar("Value", bound=JsonValue)


@dataclass(frozen=True, slots=True)
class Record:
    """An EMR and whether it may be used."""

    emr_id: str
    emr: Emr
    life: Life


@dataclass(frozen=True, slots=True)
class SharingRecord:
    """``end`` has the largest number of its key's history. ``is_open``: the key stands, and is ours."""

    access: Access | None
    end: End | None
    is_open: bool


class State:
    """Reads and writes of one transaction. A value that is not of this contract raises ``Refused`` with
    INTERNAL_ERROR.
    """

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    # Public values

    async def read(self, *wanted: Key) -> list[bytes | None]:
        """The raw values in the order of the keys, in one round trip where the peer allows."""
        return await self._stub.get_states([composite_key(*key) for key in wanted])

    async def get(self, kind: type[Value], key: Key) -> Value | None:
        (raw,) = await self.read(key)
        return decode(kind, raw)

    def put(self, key: Key, value: JsonValue) -> None:
        self._stub.put_state(composite_key(*key), value.to_json())

    def put_under_owner(self, key: Key, value: JsonValue, owner_msp: str) -> None:
        """Creates a key that from now on only the owner's peer needs to endorse."""
        self.put(key, value)
        self._stub.set_state_validation_parameter(composite_key(*key), _owner_alone(owner_msp))

    async def is_under_owner(self, key: Key, owner_msp: str) -> bool:
        """Whether the owner's peer, and no other, has to endorse the key's next write."""
        return await self._stub.get_state_validation_parameter(composite_key(*key)) == _owner_alone(owner_msp)

    async def page(self, prefix: Key, page_size: int, bookmark: str) -> Page:
        """Of the keys that begin with ``prefix``. For evaluated functions only."""
        return await self._stub.get_composite_key_page(*prefix, page_size=page_size, bookmark=bookmark)

    async def history(self, kind: type[Value], key: Key) -> list[Value]:
        """Every value that ever stood under the key, newest first. Deletions, and values that are not of this
        contract, are left out: they claim nothing."""
        found = []
        async for change in self._stub.get_history_for_key(composite_key(*key)):
            if not change.is_delete and (value := _decode_if_ours(kind, change.value)) is not None:
                found.append(value)
        return found

    # EMRs and sharings

    async def find_record(self, emr_id: str) -> Record | None:
        emr, life = await self.read(keys.emr(emr_id), keys.life(emr_id))
        return await self.record_from(emr_id, emr, life)

    async def record(self, emr_id: str) -> Record:
        return found(await self.find_record(emr_id))

    async def record_from(self, emr_id: str, emr: bytes | None, life: bytes | None) -> Record | None:
        """From the raw values of ``emr~`` and ``life~``."""
        if (value := decode(Emr, emr)) is None:
            return None
        return Record(emr_id, value, await self._life(emr_id, _decode_if_ours(LifeState, life)))

    async def record_of_patient(self, owner_msp: str, patient_id: str) -> Record | None:
        index = await self.get(EmrOf, keys.emr_of(owner_msp, patient_id))
        return await self.find_record(index.emr_id) if index else None

    async def sharing(self, emr_id: str, recipient_msp: str) -> SharingRecord:
        raw_access, raw_end = await self.read(keys.access(emr_id, recipient_msp), keys.end(emr_id, recipient_msp))
        access, end = decode(Access, raw_access), _decode_if_ours(End, raw_end)
        if raw_end is not None and end is None:
            unreadable = sharing_rules.unreadable_end(access, self._stub.timestamp)
            return SharingRecord(access, unreadable, is_open=False)
        largest = await self._largest_end(emr_id, recipient_msp, access, end)
        return SharingRecord(access, largest, is_open=end is not None)

    def put_end(self, record: Record, recipient_msp: str, end: End, *, is_open: bool) -> None:
        """A key that its owner has deleted comes back under its policy."""
        key = keys.end(record.emr_id, recipient_msp)
        if is_open:
            self.put(key, end)
        else:
            self.put_under_owner(key, end, record.emr.owner)

    async def _life(self, emr_id: str, current: LifeState | None) -> Life:
        if current is None or current.state is Life.ERASED:
            return Life.ERASED
        return rules.life_of(current, await self.history(LifeState, keys.life(emr_id)))

    async def _largest_end(
        self, emr_id: str, recipient_msp: str, access: Access | None, current: End | None
    ) -> End | None:
        if access is None or (current is not None and current.number >= access.number):
            return current  # history can add nothing to an ending that stands
        return rules.end_of(current, await self.history(End, keys.end(emr_id, recipient_msp)))

    # Private values

    async def get_sealed(self, msp_id: str, wanted: Sequence[Key]) -> list[str | None]:
        """Base64 of the sealed bytes in the hospital's own collection; None for what this peer does not hold."""
        collection, names = keys.implicit_collection(msp_id), [composite_key(*key) for key in wanted]
        try:
            values = await self._stub.get_private_data_many(collection, names)
        except PeerRefused:  # a peer fails the whole request when one value has not arrived yet
            values = [await self._get_if_held(collection, name) for name in names]
        return [None if value is None else base64.b64encode(value).decode() for value in values]

    async def is_held(self, msp_id: str, key: Key) -> bool:
        """Whether the value stands in the hospital's collection: neither never written nor purged."""
        digest = await self._stub.get_private_data_hash(keys.implicit_collection(msp_id), composite_key(*key))
        return digest is not None

    def put_sealed(self, msp_id: str, key: Key, sealed: bytes) -> None:
        self._stub.put_private_data(keys.implicit_collection(msp_id), composite_key(*key), sealed)

    def purge(self, msp_id: str, key: Key) -> None:
        self._stub.purge_private_data(keys.implicit_collection(msp_id), composite_key(*key))

    async def _get_if_held(self, collection: str, name: str) -> bytes | None:
        try:
            return await self._stub.get_private_data(collection, name)
        except PeerRefused:
            return None


def _owner_alone(owner_msp: str) -> bytes:
    return signature_policy(1, [(owner_msp, "peer")])


def found(record: Record | None) -> Record:
    if record is None:
        raise Refused(Code.EMR_NOT_FOUND)
    return record


def decode(kind: type[Value], raw: bytes | None) -> Value | None:
    if raw is None:
        return None
    value = _decode_if_ours(kind, raw)
    if value is None:
        raise Refused(Code.INTERNAL_ERROR, f"the ledger holds a malformed {kind.__name__}")
    return value


def _decode_if_ours(kind: type[Value], raw: bytes | None) -> Value | None:
    try:
        return None if raw is None else kind.from_json(raw)
    except ValueMalformed:
        return None

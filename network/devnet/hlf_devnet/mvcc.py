"""Multi-version concurrency control: did what a transaction read change before it was ordered?

The rules of `core/ledger/kvledger/txmgmt/validation` (validator.go, rangequery_validator.go, tx_ops.go).
"""

from collections.abc import Iterator
from typing import Any

from fabric_protos.peer import transaction_pb2

from hlf_devnet import rwset
from hlf_devnet.range_reads import RangeReads
from hlf_devnet.rwset import CollectionRwset, NamespaceRwset, Rwset
from hlf_devnet.state import Snapshot, Version, VersionedValue
from hlf_devnet.updates import HashedKey, StateUpdates, Update

VALID: int = transaction_pb2.VALID
MVCC_READ_CONFLICT: int = transaction_pb2.MVCC_READ_CONFLICT
PHANTOM_READ_CONFLICT: int = transaction_pb2.PHANTOM_READ_CONFLICT


class BlockState:
    """The committed state, and on top of it what the valid transactions of the block did so far."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.updates = StateUpdates()

    def check(self, written: Rwset) -> int:
        """VALID, MVCC_READ_CONFLICT or PHANTOM_READ_CONFLICT."""
        for part in written:
            if not all(self._unchanged(part.namespace, read) for read in part.public.reads):
                return MVCC_READ_CONFLICT
            if not all(self._same_range(part.namespace, info) for info in part.public.range_queries_info):
                return PHANTOM_READ_CONFLICT
            if not all(self._hashes_unchanged(part.namespace, collection) for collection in part.collections):
                return MVCC_READ_CONFLICT
        return VALID

    def apply(self, written: Rwset, version: Version) -> None:
        """Takes a valid transaction's writes in."""
        for part in written:
            self._apply_public(part, version)
            for collection in part.collections:
                self._apply_hashed(part.namespace, collection, version)

    def _unchanged(self, namespace: str, read: Any) -> bool:
        if (namespace, read.key) in self.updates.public:
            return False
        return _version(self._snapshot.get(namespace, read.key)) == rwset.read_version(read)

    def _hashes_unchanged(self, namespace: str, part: CollectionRwset) -> bool:
        return all(self._hash_unchanged(namespace, part.collection, read) for read in part.hashed.hashed_reads)

    def _hash_unchanged(self, namespace: str, collection: str, read: Any) -> bool:
        if (namespace, collection, read.key_hash) in self.updates.hashed:
            return False
        value = self._snapshot.get_hash(namespace, collection, read.key_hash)
        return _version(value) == rwset.read_version(read)

    def _same_range(self, namespace: str, info: Any) -> bool:
        results = self._range(namespace, info)
        if info.WhichOneof("reads_info") == "reads_merkle_hashes":
            return _same_summary(results, info.reads_merkle_hashes)
        recorded = [(read.key, rwset.read_version(read)) for read in info.raw_reads.kv_reads]
        return recorded == list(results)

    def _range(self, namespace: str, info: Any) -> Iterator[tuple[str, Version]]:
        """What the query would find now. A query that was not read to its end recorded the last key that it saw."""
        yield from self._merged(namespace, info.start_key, info.end_key)
        if not info.itr_exhausted:
            update = self.updates.public.get((namespace, info.end_key))
            value = self._snapshot.get(namespace, info.end_key) if update is None else update
            if value is not None and value.value is not None:
                yield info.end_key, value.version

    def _merged(self, namespace: str, start: str, end: str) -> Iterator[tuple[str, Version]]:
        committed = self._snapshot.range(namespace, start, end)
        updated = self.updates.range(namespace, start, end)
        old, new = next(committed, None), next(updated, None)
        while old is not None or new is not None:
            if new is None or (old is not None and old[0] < new[0]):
                assert old is not None
                yield old[0], old[1].version
                old = next(committed, None)
                continue
            if old is not None and old[0] == new[0]:
                old = next(committed, None)
            if new[1].value is not None:
                yield new[0], new[1].version
            new = next(updated, None)

    def _apply_public(self, part: NamespaceRwset, version: Version) -> None:
        metadata = {write.key: rwset.metadata_bytes(write.entries) for write in part.public.metadata_writes}
        for write in part.public.writes:
            self.updates.history.append((part.namespace, write.key, version.transaction))
            key = (part.namespace, write.key)
            if rwset.deletes(write):
                self.updates.set_public(key, Update(None, b"", version))
            else:
                kept = metadata[write.key] if write.key in metadata else _metadata(self._latest(key))
                self.updates.set_public(key, Update(write.value, kept, version))
            metadata.pop(write.key, None)
        for name, entries in metadata.items():
            latest = self._latest((part.namespace, name))
            if latest is not None and latest.value is not None:
                self.updates.set_public((part.namespace, name), Update(latest.value, entries, version))

    def _apply_hashed(self, namespace: str, part: CollectionRwset, version: Version) -> None:
        metadata = {write.key_hash: rwset.metadata_bytes(write.entries) for write in part.hashed.metadata_writes}
        for write in part.hashed.hashed_writes:
            key = (namespace, part.collection, write.key_hash)
            if write.is_purge:
                self.updates.purged[key] = version.transaction
            if rwset.deletes_hash(write):
                self.updates.hashed[key] = Update(None, b"", version)
            else:
                name = write.key_hash
                kept = metadata[name] if name in metadata else _metadata(self._latest_hash(key))
                self.updates.hashed[key] = Update(write.value_hash, kept, version)
            metadata.pop(write.key_hash, None)
        for key_hash, entries in metadata.items():
            key = (namespace, part.collection, key_hash)
            latest = self._latest_hash(key)
            if latest is not None and latest.value is not None:
                self.updates.hashed[key] = Update(latest.value, entries, version)

    def _latest(self, key: tuple[str, str]) -> Update | VersionedValue | None:
        return self.updates.public.get(key) or self._snapshot.get(*key)

    def _latest_hash(self, key: HashedKey) -> Update | VersionedValue | None:
        return self.updates.hashed.get(key) or self._snapshot.get_hash(*key)


def _same_summary(results: Iterator[tuple[str, Version]], recorded: Any) -> bool:
    if recorded.max_degree < 2:
        return False
    reads = RangeReads(recorded.max_degree)
    for key, version in results:
        reads.add(key, version)
    return reads.raw() is None and bool(reads.summary() == recorded)


def _version(value: VersionedValue | None) -> Version | None:
    return None if value is None else value.version


def _metadata(value: Update | VersionedValue | None) -> bytes:
    return b"" if value is None else value.metadata

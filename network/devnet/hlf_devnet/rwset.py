"""Read-write sets: building them in Fabric's order and encoding, and taking them apart.

Order (`rwsetutil/rwset_builder.go`): namespaces, collections and plain keys ascending; range queries as they came.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from google.protobuf.message import DecodeError

from hlf_devnet.range_reads import kv_read, proto_version
from hlf_devnet.state import Version

HASH_OF_NOTHING = hashlib.sha256(b"").digest()
EMPTY = kv_rwset_pb2.KVRWSet()
"""Nothing read or written."""


class RwsetError(Exception):
    """Bytes that are no read-write set."""


class CollectionRwset(NamedTuple):
    """`hashed`: `kvrwset.HashedRWSet`. `private_hash`: SHA-256 of the private write set, empty when there is none."""

    collection: str
    hashed: Any
    private_hash: bytes


class NamespaceRwset(NamedTuple):
    """`public`: `kvrwset.KVRWSet`."""

    namespace: str
    public: Any
    collections: tuple[CollectionRwset, ...]

    @property
    def writes(self) -> bool:
        if self.public.writes or self.public.metadata_writes:
            return True
        return any(part.hashed.hashed_writes or part.hashed.metadata_writes for part in self.collections)


Rwset = tuple[NamespaceRwset, ...]


def parse(content: bytes) -> Rwset:
    """Takes a serialized `rwset.TxReadWriteSet` apart; RwsetError if any part is malformed."""
    try:
        message = rwset_pb2.TxReadWriteSet.FromString(content)
        return tuple(_namespace(part) for part in message.ns_rwset)
    except DecodeError as error:
        raise RwsetError("malformed read-write set") from error


def private_writes(private: bytes) -> list[tuple[str, str, bytes]]:
    """(namespace, collection, bytes of its `kvrwset.KVRWSet`) of a serialized `rwset.TxPvtReadWriteSet`."""
    try:
        message = rwset_pb2.TxPvtReadWriteSet.FromString(private)
    except DecodeError as error:
        raise RwsetError("malformed private read-write set") from error
    return [
        (part.namespace, collection.collection_name, collection.rwset)
        for part in message.ns_pvt_rwset
        for collection in part.collection_pvt_rwset
    ]


def private_rwset(parts: Iterable[tuple[str, str, bytes]]) -> Any:
    """`rwset.TxPvtReadWriteSet` of (namespace, collection, bytes of its KVRWSet), in that order."""
    message = rwset_pb2.TxPvtReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
    for namespace, collection, content in parts:
        if not message.ns_pvt_rwset or message.ns_pvt_rwset[-1].namespace != namespace:
            message.ns_pvt_rwset.add(namespace=namespace)
        message.ns_pvt_rwset[-1].collection_pvt_rwset.add(collection_name=collection, rwset=content)
    return message


def deletes(write: Any) -> bool:
    """Whether a `kvrwset.KVWrite` removes its key: an empty value is a delete whatever the flag says."""
    return write.is_delete or not write.value


def deletes_hash(write: Any) -> bool:
    """The same of a `kvrwset.KVWriteHash`."""
    return write.is_delete or not write.value_hash or write.value_hash == HASH_OF_NOTHING


def read_version(read: Any) -> Version | None:
    """The version in a `KVRead` or `KVReadHash`; None when the key had no value."""
    return Version(read.version.block_num, read.version.tx_num) if read.HasField("version") else None


def metadata_bytes(entries: Iterable[Any]) -> bytes:
    """Entries of a metadata write as Fabric's state keeps them."""
    return bytes(kv_rwset_pb2.KVMetadataWrite(entries=entries).SerializeToString())


def metadata_entries(content: bytes) -> dict[str, bytes]:
    """The reverse of `metadata_bytes`."""
    return {entry.name: entry.value for entry in kv_rwset_pb2.KVMetadataWrite.FromString(content).entries}


@dataclass(slots=True)
class _Collection:
    reads: dict[str, Version | None] = field(default_factory=dict)
    writes: dict[str, tuple[bytes, bool]] = field(default_factory=dict)
    metadata_writes: dict[str, Mapping[str, bytes]] = field(default_factory=dict)

    @property
    def is_written(self) -> bool:
        return bool(self.writes or self.metadata_writes)

    def private(self) -> bytes:
        """The metadata itself stands with the hashes; the private part only names the keys."""
        message = kv_rwset_pb2.KVRWSet(
            writes=[_write(key, value) for key, (value, _) in sorted(self.writes.items())],
            metadata_writes=[kv_rwset_pb2.KVMetadataWrite(key=key) for key in sorted(self.metadata_writes)],
        )
        return bytes(message.SerializeToString())

    def hashed(self) -> bytes:
        reads = [
            kv_rwset_pb2.KVReadHash(key_hash=key_hash(key), version=proto_version(version))
            for key, version in sorted(self.reads.items())
        ]
        metadata = [
            kv_rwset_pb2.KVMetadataWriteHash(key_hash=key_hash(key), entries=_entries(entries))
            for key, entries in sorted(self.metadata_writes.items())
        ]
        writes = [_hashed_write(key, value, purge) for key, (value, purge) in sorted(self.writes.items())]
        message = kv_rwset_pb2.HashedRWSet(hashed_reads=reads, hashed_writes=writes, metadata_writes=metadata)
        return bytes(message.SerializeToString())


@dataclass(slots=True)
class _Namespace:
    reads: dict[str, Version | None] = field(default_factory=dict)
    writes: dict[str, bytes] = field(default_factory=dict)
    metadata_writes: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    range_queries: dict[tuple[str, str, bool], Any] = field(default_factory=dict)
    collections: dict[str, _Collection] = field(default_factory=dict)

    def public(self) -> bytes:
        message = kv_rwset_pb2.KVRWSet(
            reads=[kv_read(key, version) for key, version in sorted(self.reads.items())],
            range_queries_info=self.range_queries.values(),
            writes=[_write(key, value) for key, value in sorted(self.writes.items())],
            metadata_writes=[
                kv_rwset_pb2.KVMetadataWrite(key=key, entries=_entries(entries))
                for key, entries in sorted(self.metadata_writes.items())
            ],
        )
        return bytes(message.SerializeToString())


class RwsetBuilder:
    """Collects what a transaction reads and writes."""

    def __init__(self) -> None:
        self._namespaces: dict[str, _Namespace] = {}

    def read(self, namespace: str, key: str, version: Version | None) -> None:
        self._namespace(namespace).reads[key] = version

    def write(self, namespace: str, key: str, value: bytes) -> None:
        self._namespace(namespace).writes[key] = value

    def write_metadata(self, namespace: str, key: str, entries: Mapping[str, bytes]) -> None:
        self._namespace(namespace).metadata_writes[key] = dict(entries)

    def query_range(self, namespace: str, info: Any) -> None:
        """`info`: `kvrwset.RangeQueryInfo`; the first of equal ranges counts."""
        key = (info.start_key, info.end_key, info.itr_exhausted)
        self._namespace(namespace).range_queries.setdefault(key, info)

    def read_hash(self, namespace: str, collection: str, key: str, version: Version | None) -> None:
        self._collection(namespace, collection).reads[key] = version

    def write_private(self, namespace: str, collection: str, key: str, value: bytes, *, purge: bool = False) -> None:
        self._collection(namespace, collection).writes[key] = (value, purge)

    def write_private_metadata(self, namespace: str, collection: str, key: str, entries: Mapping[str, bytes]) -> None:
        self._collection(namespace, collection).metadata_writes[key] = dict(entries)

    @property
    def private_collections(self) -> tuple[tuple[str, str], ...]:
        """(namespace, collection) of what is written in private."""
        return tuple(
            (name, collection)
            for name, namespace in sorted(self._namespaces.items())
            for collection, content in sorted(namespace.collections.items())
            if content.is_written
        )

    def build(self) -> tuple[bytes, bytes | None]:
        """Bytes of the `rwset.TxReadWriteSet` and, if collections were written, of the `rwset.TxPvtReadWriteSet`."""
        public = rwset_pb2.TxReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
        private: list[tuple[str, str, bytes]] = []
        for name, namespace in sorted(self._namespaces.items()):
            part = public.ns_rwset.add(namespace=name, rwset=namespace.public())
            for collection_name, collection in sorted(namespace.collections.items()):
                content = collection.private() if collection.is_written else None
                part.collection_hashed_rwset.add(
                    collection_name=collection_name,
                    hashed_rwset=collection.hashed(),
                    pvt_rwset_hash=b"" if content is None else hashlib.sha256(content).digest(),
                )
                if content is not None:
                    private.append((name, collection_name, content))
        return public.SerializeToString(), private_rwset(private).SerializeToString() if private else None

    def _namespace(self, name: str) -> _Namespace:
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces[name] = _Namespace()
        return found

    def _collection(self, namespace: str, name: str) -> _Collection:
        collections = self._namespace(namespace).collections
        found = collections.get(name)
        if found is None:
            found = collections[name] = _Collection()
        return found


def key_hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _namespace(message: Any) -> NamespaceRwset:
    collections = tuple(
        CollectionRwset(
            part.collection_name, kv_rwset_pb2.HashedRWSet.FromString(part.hashed_rwset), part.pvt_rwset_hash
        )
        for part in message.collection_hashed_rwset
    )
    return NamespaceRwset(message.namespace, kv_rwset_pb2.KVRWSet.FromString(message.rwset), collections)


def _write(key: str, value: bytes) -> Any:
    return kv_rwset_pb2.KVWrite(key=key, is_delete=not value, value=value)


def _hashed_write(key: str, value: bytes, purge: bool) -> Any:
    value_hash = hashlib.sha256(value).digest() if value else b""
    return kv_rwset_pb2.KVWriteHash(key_hash=key_hash(key), is_delete=not value, value_hash=value_hash, is_purge=purge)


def _entries(entries: Mapping[str, bytes]) -> list[Any]:
    return [kv_rwset_pb2.KVMetadataEntry(name=name, value=value) for name, value in sorted(entries.items())]

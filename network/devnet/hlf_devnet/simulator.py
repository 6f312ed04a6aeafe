"""Runs one transaction against a snapshot and records what it read and wrote, in Fabric's encoding and order.

What it refuses, and the texts, are those of `core/ledger/kvledger/txmgmt/txmgr` (tx_simulator.go, query_executor.go).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from hlf.channel_config import IMPLICIT_PREFIX

from hlf_devnet import lifecycle, rwset
from hlf_devnet.endorsement import WrittenKey, committed_policy_of_key, judged_parts, required_policies
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.policy import PolicyError
from hlf_devnet.range_reads import RangeReads
from hlf_devnet.rwset import RwsetBuilder, key_hash, metadata_entries
from hlf_devnet.state import KeyModification, Snapshot, Version, VersionedValue

UNREADABLE_POLICY = b"\xff"
"""Stands for a garbled policy: whoever evaluates it gets a PolicyError."""


class SimulationError(Exception):
    """What a transaction may not do; the text is Fabric's and goes back to the chaincode as an ERROR message."""


class KeyValue(NamedTuple):
    key: str
    value: bytes


class SimulationResult:
    """`public`: bytes of `rwset.TxReadWriteSet`, for ChaincodeAction.results. `private`: bytes of the
    `rwset.TxPvtReadWriteSet` of every collection written, or None; give it to `TransientStore.persist`.
    `private_collections`: (namespace, collection) of every private write."""

    def __init__(
        self,
        public: bytes,
        private: bytes | None,
        private_collections: tuple[tuple[str, str], ...],
        required: Callable[[bytes], tuple[Any, ...]],
    ) -> None:
        self.public = public
        self.private = private
        self.private_collections = private_collections
        self._required = required

    @cached_property
    def policies(self) -> tuple[Any, ...]:
        """What a committer will ask of the endorsers, as far as this peer's newest state knows; for
        `ChannelPolicies.required_org_sets`, which raises PolicyError when a key's policy is garbled."""
        return self._required(self.public)


class RangeIterator:
    """Results one by one; each `next()` is recorded, so fetch no more than the chaincode is sent (and one to know
    whether there is more, as Fabric does)."""

    def __init__(self, rows: Iterator[tuple[str, VersionedValue]], start: str, end: str, page_size: int = 0) -> None:
        self._rows = rows
        self._end = end
        self._left = page_size or None
        self._reads = RangeReads()
        self._info = kv_rwset_pb2.RangeQueryInfo(start_key=start)

    def next(self) -> KeyValue | None:
        """None at the end (also at the end of a page)."""
        found = None if self._left == 0 else next(self._rows, None)
        if found is None:
            self._info.itr_exhausted = True
            self._info.end_key = self._end
            return None
        key, value = found
        if self._left is not None:
            self._left -= 1
        self._reads.add(key, value.version)
        self._info.end_key = key
        return KeyValue(key, value.value)

    def bookmark(self) -> str:
        """The key at which the next page starts; empty at the end."""
        found = next(self._rows, None)
        return "" if found is None else found[0]

    def close(self) -> None:
        """Results not fetched are not recorded."""
        self._rows = iter(())

    def recorded(self) -> Any:
        """The `kvrwset.RangeQueryInfo`. Call once, when the transaction ends."""
        self._reads.describe(self._info)
        return self._info


class Simulator:
    """One transaction. `namespace` is the chaincode that asks: chaincode-to-chaincode calls in one channel share the
    simulator. A namespace must be entered before use. Not thread-safe. Reads never see the transaction's own writes.
    """

    def __init__(self, ledger: PeerLedger, tx_id: str) -> None:
        self._ledger = ledger
        self._tx_id = tx_id
        self._snapshot = ledger.snapshot()
        self._builder = RwsetBuilder()
        self._ranges: list[tuple[str, RangeIterator]] = []
        self._has_written = False
        self._has_paged = False
        self._has_queried_private = False
        self._is_done = False
        self._chaincode = ""
        self._collections_known: set[str] = set()

    def enter(self, namespace: str) -> None:
        """Notes that `namespace` runs: its `_lifecycle` definition becomes part of the read set, as on Fabric. The
        first one is the chaincode that was called."""
        self._chaincode = self._chaincode or namespace
        self._read(lifecycle.NAMESPACE, lifecycle.sequence_key(namespace))

    def enter_system(self, namespace: str) -> None:
        """As `enter`, of a system chaincode: it has no definition that could be read."""
        self._chaincode = namespace

    def get_state(self, namespace: str, key: str) -> bytes:
        """Empty when there is no value."""
        value = self._read(namespace, key)
        return b"" if value is None else value.value

    def get_state_metadata(self, namespace: str, key: str) -> dict[str, bytes]:
        value = self._read(namespace, key)
        return {} if value is None else metadata_entries(value.metadata)

    def put_state(self, namespace: str, key: str, value: bytes) -> None:
        """An empty value deletes."""
        self._will_write()
        self._builder.write(namespace, key, value)

    def delete_state(self, namespace: str, key: str) -> None:
        self.put_state(namespace, key, b"")

    def put_state_metadata(self, namespace: str, key: str, metadata: Mapping[str, bytes]) -> None:
        """`{"VALIDATION_PARAMETER": policy}` for key-level policies; an empty mapping removes."""
        self._will_write()
        self._builder.write_metadata(namespace, key, metadata)

    def range(self, namespace: str, start: str, end: str) -> RangeIterator:
        self._not_done()
        iterator = RangeIterator(self._snapshot.range(namespace, start, end), start, end)
        self._ranges.append((namespace, iterator))
        return iterator

    def page(self, namespace: str, start: str, end: str, page_size: int, bookmark: str = "") -> RangeIterator:
        if self._has_written:
            raise self._unsupported("Paginated queries are supported only in a read-only transaction")
        self._not_done()
        self._has_paged = True
        first = bookmark or start
        iterator = RangeIterator(self._snapshot.range(namespace, first, end), first, end, page_size)
        self._ranges.append((namespace, iterator))
        return iterator

    def history(self, namespace: str, key: str) -> Iterator[KeyModification]:
        """Newest first; not recorded as a read."""
        self._not_done()
        return self._snapshot.history(namespace, key)

    def get_private(self, namespace: str, collection: str, key: str) -> bytes:
        """SimulationError when the peer lacks the value that belongs to the public hash."""
        self._check_collection(namespace, collection)
        value = self._snapshot.get_private(namespace, collection, key)
        of_hash = self._snapshot.get_hash(namespace, collection, key_hash(key))
        version, public_version = _version(value), _version(of_hash)
        if version != public_version:
            raise SimulationError(
                "private data matching public hash version is not available. Public hash version = "
                f"{_height(public_version)}, Private data version = {_height(version)}"
            )
        self._builder.read_hash(namespace, collection, key, version)
        return b"" if value is None else value.value

    def get_private_hash(self, namespace: str, collection: str, key: str) -> bytes:
        value = self._read_hash(namespace, collection, key)
        return b"" if value is None else value.value

    def get_private_metadata(self, namespace: str, collection: str, key: str) -> dict[str, bytes]:
        value = self._read_hash(namespace, collection, key)
        return {} if value is None else metadata_entries(value.metadata)

    def put_private(self, namespace: str, collection: str, key: str, value: bytes) -> None:
        self._check_collection(namespace, collection)
        self._will_write()
        self._builder.write_private(namespace, collection, key, value)

    def delete_private(self, namespace: str, collection: str, key: str) -> None:
        self.put_private(namespace, collection, key, b"")

    def purge_private(self, namespace: str, collection: str, key: str) -> None:
        self._check_collection(namespace, collection)
        self._will_write()
        self._builder.write_private(namespace, collection, key, b"", purge=True)

    def put_private_metadata(self, namespace: str, collection: str, key: str, metadata: Mapping[str, bytes]) -> None:
        self._check_collection(namespace, collection)
        self._will_write()
        self._builder.write_private_metadata(namespace, collection, key, metadata)

    def private_range(self, namespace: str, collection: str, start: str, end: str) -> RangeIterator:
        """Not recorded: nothing protects such a query against phantoms, so nothing may be written after it."""
        if self._has_written:
            raise self._unsupported("Queries on pvt data is supported only in a read-only transaction")
        self._check_collection(namespace, collection)
        self._not_done()
        self._has_queried_private = True
        return RangeIterator(self._snapshot.private_range(namespace, collection, start, end), start, end)

    def finish(self) -> SimulationResult:
        """Once. Also releases the snapshot."""
        self._not_done()
        for namespace, iterator in self._ranges:
            self._builder.query_range(namespace, iterator.recorded())
        public, private = self._builder.build()
        result = SimulationResult(public, private, self._builder.private_collections, self._policies)
        self.close()
        return result

    def close(self) -> None:
        """Releases the snapshot of an abandoned simulation; harmless after finish()."""
        self._is_done = True
        for _, iterator in self._ranges:
            iterator.close()
        self._snapshot.close()

    def _read(self, namespace: str, key: str) -> VersionedValue | None:
        self._not_done()
        value = self._snapshot.get(namespace, key)
        self._builder.read(namespace, key, _version(value))
        return value

    def _read_hash(self, namespace: str, collection: str, key: str) -> VersionedValue | None:
        self._check_collection(namespace, collection)
        value = self._snapshot.get_hash(namespace, collection, key_hash(key))
        self._builder.read_hash(namespace, collection, key, _version(value))
        return value

    def _policies(self, public: bytes) -> tuple[Any, ...]:
        found: list[Any] = []
        with self._ledger.snapshot() as snapshot:
            for part in judged_parts(rwset.parse(public), self._chaincode):
                policy = self._policy_of(part.namespace)
                if policy is not None:
                    policy_of_key = partial(_policy_of_key, snapshot)
                    found += required_policies(part, policy, policy_of_key, _policy_of_collection)
        return tuple(found)

    def _policy_of(self, namespace: str) -> Any | None:
        if namespace == lifecycle.NAMESPACE:
            return lifecycle.POLICY
        definition = lifecycle.committed_definition(self._ledger, namespace)
        return None if definition is None else definition.policy

    def _check_collection(self, namespace: str, collection: str) -> None:
        """Fabric looks collections up through the transaction itself, so the definition becomes part of its reads."""
        self._not_done()
        if namespace not in self._collections_known and namespace != lifecycle.NAMESPACE:
            self._collections_known.add(namespace)
            for key in lifecycle.definition_keys(namespace):
                self._read(lifecycle.NAMESPACE, key)
        if collection not in self._ledger.collections:
            raise SimulationError(
                f"collection [{collection}] not defined in the collection config for chaincode [{namespace}]"
            )

    def _will_write(self) -> None:
        self._not_done()
        if self._has_queried_private:
            raise self._unsupported("Transaction has already performed queries on pvt data. Writes are not allowed")
        if self._has_paged:
            raise self._unsupported("Transaction has already performed a paginated query. Writes are not allowed")
        self._has_written = True

    def _unsupported(self, reason: str) -> SimulationError:
        return SimulationError(f"txid [{self._tx_id}]: unsuppored transaction. {reason}")

    def _not_done(self) -> None:
        if self._is_done:
            raise SimulationError("this instance should not be used after calling Done()")


def _policy_of_key(snapshot: Snapshot, key: WrittenKey) -> Any | None:
    try:
        return committed_policy_of_key(snapshot, key)
    except PolicyError:
        return UNREADABLE_POLICY


def _policy_of_collection(collection: str) -> str:
    return f"/Channel/Application/{collection.removeprefix(IMPLICIT_PREFIX)}/Endorsement"


def _version(value: VersionedValue | None) -> Version | None:
    return None if value is None else value.version


def _height(version: Version | None) -> str:
    return "<nil>" if version is None else f"{{BlockNum: {version.block}, TxNum: {version.transaction}}}"

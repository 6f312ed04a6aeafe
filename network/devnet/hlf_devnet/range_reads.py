"""What a range query read, as it is recorded for the phantom check: the reads themselves, or beyond `MAX_DEGREE` of
them the summary of a Merkle tree over them (Fabric's `rwsetutil/query_results_helper.go`)."""

import hashlib
from collections.abc import Sequence
from typing import Any

from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2

from hlf_devnet.state import Version

MAX_DEGREE = 50


def kv_read(key: str, version: Version | None) -> Any:
    """`kvrwset.KVRead`; without a version when the key has no value."""
    return kv_rwset_pb2.KVRead(key=key, version=proto_version(version))


def proto_version(version: Version | None) -> Any:
    return kv_rwset_pb2.Version(block_num=version.block, tx_num=version.transaction) if version is not None else None


class RangeReads:
    """Collects reads in order. Groups of `max_degree` + 1 become a hash; groups of hashes become the next level."""

    def __init__(self, max_degree: int = MAX_DEGREE) -> None:
        self._max_degree = max_degree
        self._pending: list[Any] = []
        self._tree = _MerkleTree(max_degree)

    def add(self, key: str, version: Version) -> None:
        self._pending.append(kv_read(key, version))
        if len(self._pending) > self._max_degree:
            self._hash_pending()

    def raw(self) -> Sequence[Any] | None:
        """The reads, when there are few enough; None once they were summarized."""
        return self._pending if self._tree.is_empty else None

    def summary(self) -> Any:
        """`kvrwset.QueryReadsMerkleSummary`. Call once, at the end."""
        if self._pending:
            self._hash_pending()
        return self._tree.finished()

    def describe(self, info: Any) -> None:
        """Writes the reads into a `kvrwset.RangeQueryInfo`."""
        raw = self.raw()
        if raw is None:
            info.reads_merkle_hashes.CopyFrom(self.summary())
        elif raw:
            info.raw_reads.kv_reads.extend(raw)

    def _hash_pending(self) -> None:
        reads = kv_rwset_pb2.QueryReads(kv_reads=self._pending)
        self._pending = []
        self._tree.add(hashlib.sha256(reads.SerializeToString()).digest())


class _MerkleTree:
    """`_levels[n]` holds the hashes of level n that no hash of level n + 1 stands for yet."""

    def __init__(self, max_degree: int) -> None:
        self._max_degree = max_degree
        self._levels: dict[int, list[bytes]] = {1: []}
        self._top = 1

    @property
    def is_empty(self) -> bool:
        return self._top == 1 and not self._levels[1]

    def add(self, leaf: bytes) -> None:
        level = 1
        self._push(level, leaf)
        while len(self._levels[level]) > self._max_degree:
            combined = _combined(self._levels.pop(level))
            level += 1
            self._push(level, combined)

    def finished(self) -> Any:
        for level in range(1, self._top):
            if hashes := self._levels.pop(level, []):
                self._push(level + 1, hashes[0] if len(hashes) == 1 else _combined(hashes))
        if len(self._levels[self._top]) > self._max_degree:
            self._push(self._top + 1, _combined(self._levels.pop(self._top)))
        return kv_rwset_pb2.QueryReadsMerkleSummary(
            max_degree=self._max_degree, max_level=self._top, max_level_hashes=self._levels[self._top]
        )

    def _push(self, level: int, digest: bytes) -> None:
        self._levels.setdefault(level, []).append(digest)
        self._top = max(self._top, level)


def _combined(hashes: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashes)).digest()

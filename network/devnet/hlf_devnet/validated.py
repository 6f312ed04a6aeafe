"""A judged block, as committers and listeners get it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hlf_devnet.updates import StateUpdates

_LIFECYCLE = "_lifecycle"


@dataclass(frozen=True, slots=True)
class ValidatedTransaction:
    """`code`: `peer.TxValidationCode`. `tx_id` may be empty. `event`: bytes of `peer.ChaincodeEvent` or empty.
    `private_hashes`: (namespace, collection) → SHA-256 of the private write set, of a valid transaction."""

    index: int
    tx_id: str
    type: int
    code: int
    event: bytes
    chaincode: str
    private_hashes: Mapping[tuple[str, str], bytes]


@dataclass(frozen=True, slots=True)
class ValidatedBlock:
    """`raw`: the serialized `common.Block` with flags and commit hash in its metadata, the same for every peer.
    `config`: the `common.Config` that it brings, or None."""

    number: int
    hash: bytes
    raw: bytes
    transactions: tuple[ValidatedTransaction, ...]
    updates: StateUpdates
    commit_hash: bytes
    config: Any | None = None

    @property
    def changes_lifecycle(self) -> bool:
        """Whether it touches definitions or approvals of chaincodes."""
        return any(key[0] == _LIFECYCLE for keys in (self.updates.public, self.updates.hashed) for key in keys)

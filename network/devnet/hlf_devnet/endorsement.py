"""Which policies the writes of a transaction must satisfy.

The rule of `core/common/validation/statebased`: a key with a policy of its own needs that one; the others need that of
their collection, or public ones the chaincode's; a transaction that no policy judged needs the chaincode's.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fabric_protos.peer import transaction_pb2

from hlf_devnet.policy import PolicyError, key_level_policy
from hlf_devnet.rwset import EMPTY, NamespaceRwset, Rwset, metadata_entries
from hlf_devnet.state import Snapshot

VALIDATION_PARAMETER: str = transaction_pb2.MetaDataKeys.Name(transaction_pb2.VALIDATION_PARAMETER)

WrittenKey = tuple[str, str, bytes]
"""Namespace, collection (empty: public) and key, or the key's hash in a collection."""


class PolicyJustChanged(PolicyError):
    """An earlier transaction of the same block changed the key's policy: this one was endorsed under the old one."""


def judged_parts(written: Rwset, chaincode: str) -> list[NamespaceRwset]:
    """The namespaces whose policies a transaction must satisfy: every one that it writes, and always that of the
    `chaincode` that was called."""
    parts = [part for part in written if part.writes or part.namespace == chaincode]
    if all(part.namespace != chaincode for part in parts):
        parts.append(NamespaceRwset(chaincode, EMPTY, ()))
    return parts


def required_policies(
    written: NamespaceRwset,
    chaincode_policy: Any,
    policy_of_key: Callable[[WrittenKey], Any | None],
    policy_of_collection: Callable[[str], Any],
) -> Iterator[Any]:
    """Every policy once, in the order in which Fabric meets them; PolicyError where one cannot be had."""
    seen: set[str] = set()
    judged = False
    for key in written_keys(written):
        own = policy_of_key(key)
        if own is not None:
            judged = True
            yield own
        elif key[1] not in seen:
            seen.add(key[1])
            judged = True
            yield policy_of_collection(key[1]) if key[1] else chaincode_policy
    if not judged:
        yield chaincode_policy


def written_keys(written: NamespaceRwset) -> Iterator[WrittenKey]:
    """Keys whose value or metadata is written; a key may come twice."""
    namespace = written.namespace
    for write in written.public.writes:
        yield namespace, "", write.key.encode()
    for write in written.public.metadata_writes:
        yield namespace, "", write.key.encode()
    for part in written.collections:
        for write in part.hashed.hashed_writes:
            yield namespace, part.collection, write.key_hash
    for part in written.collections:
        for write in part.hashed.metadata_writes:
            yield namespace, part.collection, write.key_hash


def keys_with_changed_metadata(written: NamespaceRwset) -> Iterator[WrittenKey]:
    for write in written.public.metadata_writes:
        yield written.namespace, "", write.key.encode()
    for part in written.collections:
        for write in part.hashed.metadata_writes:
            yield written.namespace, part.collection, write.key_hash


def committed_policy_of_key(snapshot: Snapshot, key: WrittenKey) -> Any | None:
    """The key-level policy that the state holds, or None."""
    namespace, collection, name = key
    value = snapshot.get_hash(*key) if collection else snapshot.get(namespace, name.decode())
    if value is None or not value.metadata:
        return None
    parameter = metadata_entries(value.metadata).get(VALIDATION_PARAMETER)
    return key_level_policy(parameter) if parameter else None

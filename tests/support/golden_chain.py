"""The recorded chain of official peers, and its chaincode `kv` in Python, run on devnet's simulator."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)
from hlf_devnet import rwset
from hlf_devnet.simulator import RangeIterator, Simulator

CHAIN_FILE = Path(__file__).parent.parent / "unit" / "devnet_core" / "golden" / "chain.gz"
TRANSIENTS = ["secret one", "secret two", "secret q", "secret one again", "not yours", "mine alone"]
NAMESPACE = "kv"


class RecordedTransaction(NamedTuple):
    chaincode: str
    function: str
    arguments: list[str]
    results: bytes
    inputs: list[bytes]
    """The arguments as bytes."""


def blocks() -> list[bytes]:
    content = gzip.decompress(CHAIN_FILE.read_bytes())
    found, position = [], 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        found.append(content[position + 4 : position + 4 + length])
        position += 4 + length
    return found


def as_ordered(block: bytes) -> bytes:
    """The block before a peer wrote flags and commit hash into it."""
    message = common_pb2.Block.FromString(block)
    message.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = b""
    message.metadata.metadata[common_pb2.COMMIT_HASH] = b""
    return bytes(message.SerializeToString())


def transactions(block: bytes) -> Iterator[RecordedTransaction]:
    """The endorsed transactions of a block."""
    for content in common_pb2.Block.FromString(block).data.data:
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(content).payload)
        if common_pb2.ChannelHeader.FromString(payload.header.channel_header).type == common_pb2.ENDORSER_TRANSACTION:
            yield _transaction(payload.data)


def _transaction(data: bytes) -> RecordedTransaction:
    (action,) = transaction_pb2.Transaction.FromString(data).actions
    endorsed = transaction_pb2.ChaincodeActionPayload.FromString(action.payload)
    response = proposal_response_pb2.ProposalResponsePayload.FromString(endorsed.action.proposal_response_payload)
    results = proposal_pb2.ChaincodeAction.FromString(response.extension).results
    proposal = proposal_pb2.ChaincodeProposalPayload.FromString(endorsed.chaincode_proposal_payload)
    spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(proposal.input).chaincode_spec
    function, *arguments = spec.input.args
    texts = [] if spec.chaincode_id.name != NAMESPACE else [argument.decode() for argument in arguments]
    return RecordedTransaction(spec.chaincode_id.name, function.decode(), texts, results, list(arguments))


class Kv:
    """What the recorded chaincode does, read from its results and Fabric's shim."""

    def __init__(self, simulator: Simulator, transients: Iterator[str]) -> None:
        self._simulator = simulator
        self._transients = transients

    def run(self, function: str, *arguments: str) -> None:
        getattr(self, f"_{function}")(*arguments)

    def _put(self, key: str, value: str) -> None:
        self._simulator.put_state(NAMESPACE, key, value.encode())

    def _del(self, key: str) -> None:
        self._simulator.delete_state(NAMESPACE, key)

    def _inc(self, key: str) -> None:
        self._put(key, str(int(self._simulator.get_state(NAMESPACE, key) or b"0") + 1))

    def _range(self, start: str, end: str) -> str:
        return _json(self._simulator.range(NAMESPACE, start, end))

    def _rangeput(self, start: str, end: str, key: str) -> None:
        self._put(key, self._range(start, end))

    def _page(self, start: str, end: str, size: str, bookmark: str) -> None:
        """A peer stops at the size of the page: it never asks whether there is more."""
        rows = self._simulator.page(NAMESPACE, start, end, int(size), bookmark)
        for _ in range(int(size)):
            rows.next()

    def _history(self, key: str) -> None:
        list(self._simulator.history(NAMESPACE, key))

    def _many(self, count: str) -> None:
        for index in range(int(count)):
            self._put(f"many{index:05}", f"v{index}")

    def _event(self, name: str, value: str) -> None:
        self._put(f"event-{name}", value)

    def _policy(self, key: str, policy: str) -> None:
        self._simulator.put_state_metadata(NAMESPACE, key, {"VALIDATION_PARAMETER": base64.b64decode(policy)})

    def _pput(self, collection: str, key: str) -> None:
        self._simulator.put_private(NAMESPACE, collection, key, next(self._transients).encode())

    def _pputpub(self, collection: str, key: str) -> None:
        self._pput(collection, key)
        self._put(key, "public")

    def _pget(self, collection: str, key: str) -> None:
        self._simulator.get_private(NAMESPACE, collection, key)

    def _phash(self, collection: str, key: str) -> None:
        self._simulator.get_private_hash(NAMESPACE, collection, key)

    def _pdel(self, collection: str, key: str) -> None:
        self._simulator.delete_private(NAMESPACE, collection, key)

    def _ppurge(self, collection: str, key: str) -> None:
        self._simulator.purge_private(NAMESPACE, collection, key)


def rebuilt(results: bytes) -> bytes:
    """The same read-write set, out of its parsed parts: an encoder that differs from Fabric's would show."""
    from fabric_protos.ledger.rwset import rwset_pb2

    message = rwset_pb2.TxReadWriteSet(data_model=rwset_pb2.TxReadWriteSet.KV)
    for part in rwset.parse(results):
        namespace = message.ns_rwset.add(namespace=part.namespace, rwset=_copy(part.public))
        for collection in part.collections:
            namespace.collection_hashed_rwset.add(
                collection_name=collection.collection,
                hashed_rwset=collection.hashed.SerializeToString(),
                pvt_rwset_hash=collection.private_hash,
            )
    return bytes(message.SerializeToString())


def _copy(public: Any) -> bytes:
    return bytes(kv_rwset_pb2.KVRWSet.FromString(public.SerializeToString()).SerializeToString())


def _json(rows: RangeIterator) -> str:
    """As the recorded chaincode writes what a range yields."""
    found = []
    while (row := rows.next()) is not None:
        found.append([row.key, row.value.decode()])
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)

"""What a chaincode sees of one transaction: who calls, with what, and the ledger."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

from cryptography import x509
from fabric_protos.peer import chaincode_event_pb2, chaincode_pb2, proposal_pb2

from hlf.chaincode import keys, requests
from hlf.chaincode.iterators import ResultIterator
from hlf.chaincode.proposal import Invocation, attributes_of, read_proposal
from hlf.chaincode.requests import KeyModification, KeyValue, Page, Request
from hlf.chaincode.response import Response
from hlf.chaincode.writes import Writes
from hlf.identity import Identity

Result = TypeVar("Result")


class Peer(Protocol):
    """Sends a state request of one transaction and returns the payload of the answer."""

    write_batch_size: int | None
    multiple_keys: int | None

    async def request(self, channel: str, transaction_id: str, request: Request) -> bytes: ...


class Stub:
    """The ledger as one transaction sees it.

    Reads see the state before the transaction, never what it has written itself. Writes are sent when the chaincode has
    answered with success, and not at all when it has refused. `PeerRefused` where the peer says no. The methods may be
    called at the same time (`asyncio.gather`); the peer gets one request after the other, as it demands.
    """

    def __init__(
        self,
        peer: Peer,
        channel: str,
        transaction_id: str,
        call: chaincode_pb2.ChaincodeInput,
        signed_proposal: proposal_pb2.SignedProposal | None,
    ) -> None:
        self.channel = channel
        self.tx_id = transaction_id
        self.arguments: tuple[bytes, ...] = tuple(call.args)
        self.decorations: Mapping[str, bytes] = dict(call.decorations)
        self.signed_proposal = signed_proposal
        self.event: chaincode_event_pb2.ChaincodeEvent | None = None
        self._peer = peer
        self._one_at_a_time = asyncio.Lock()
        self._writes = Writes()

    # Who calls, with what

    @cached_property
    def function(self) -> str:
        """The first argument; text that is not UTF-8 comes with replacement characters."""
        return self.arguments[0].decode(errors="replace") if self.arguments else ""

    @property
    def args(self) -> tuple[bytes, ...]:
        """The arguments after the function's name."""
        return self.arguments[1:]

    @cached_property
    def _invocation(self) -> Invocation:
        return read_proposal(self.signed_proposal.proposal_bytes if self.signed_proposal else b"")

    @property
    def creator(self) -> Identity:
        """Whose certificate signed the proposal. The peer has checked it in its MSP, and the signature."""
        return self._invocation.creator

    @property
    def certificate(self) -> x509.Certificate:
        return self.creator.certificate

    @property
    def attributes(self) -> Mapping[str, str]:
        """Attributes that the CA wrote into the creator's certificate. Raises ValueError when they are malformed."""
        return attributes_of(self.creator)

    @property
    def timestamp(self) -> datetime:
        """The client's word, the same on every endorser. A chaincode that relies on it compares it with its own
        clock.
        """
        return self._invocation.timestamp

    @property
    def transient(self) -> Mapping[str, bytes]:
        """Goes to the endorsers and not to the ledger."""
        return self._invocation.transient

    @property
    def binding(self) -> bytes:
        """SHA-256 over nonce, creator and epoch: ties other data to this very proposal."""
        return self._invocation.binding

    # Public state

    async def get_state(self, key: str) -> bytes | None:
        return await self._get(key)

    async def get_states(self, wanted: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys, in as few round trips as the peer allows."""
        return await self._get_many(wanted)

    def put_state(self, key: str, value: bytes) -> None:
        """An empty value is a deletion, as it is in Fabric."""
        self._writes.put(_named(key), value)

    def del_state(self, key: str) -> None:
        self._writes.delete(_named(key))

    def get_state_by_range(self, start: str = "", end: str = "") -> ResultIterator[KeyValue]:
        """Plain keys from `start` (included) to `end` (excluded, "" for no end). A peer sends at most its total query
        limit.
        """
        return self._range(*keys.plain_range(start, end))

    def get_state_by_partial_composite_key(
        self, object_type: str, attributes: Sequence[str] = ()
    ) -> ResultIterator[KeyValue]:
        return self._range(*keys.partial_range(object_type, attributes))

    async def get_state_page(self, start: str, end: str, *, page_size: int, bookmark: str = "") -> Page:
        """Read-only transactions alone may ask for pages: the peer does not re-check them at commit."""
        return await self._page(
            requests.get_range(*keys.plain_range(start, end), "", requests.paging(page_size, bookmark))
        )

    async def get_composite_key_page(
        self, object_type: str, attributes: Sequence[str] = (), *, page_size: int, bookmark: str = ""
    ) -> Page:
        """As `get_state_page`, over the composite keys that begin with these parts."""
        bounds = keys.partial_range(object_type, attributes)
        return await self._page(requests.get_range(*bounds, "", requests.paging(page_size, bookmark)))

    def get_query_result(self, query: str) -> ResultIterator[KeyValue]:
        """A rich query (CouchDB only). Its result is not re-checked at commit."""
        return self._iterate(requests.get_query_result(query), requests.read_key_value)

    async def get_query_result_page(self, query: str, *, page_size: int, bookmark: str = "") -> Page:
        return await self._page(requests.get_query_result(query, "", requests.paging(page_size, bookmark)))

    def get_history_for_key(self, key: str) -> ResultIterator[KeyModification]:
        """The committed values of a key, newest first. Not re-checked at commit: read the key's state too."""
        return self._iterate(requests.get_history(key), requests.read_key_modification)

    def set_state_validation_parameter(self, key: str, policy: bytes) -> None:
        """A key-level endorsement policy: a serialized `common.SignaturePolicyEnvelope` (`hlf.policies`)."""
        self._writes.set_validation_parameter(_named(key), policy)

    async def get_state_validation_parameter(self, key: str) -> bytes | None:
        return await self._validation_parameter(key, "")

    # Private data

    async def get_private_data(self, collection: str, key: str) -> bytes | None:
        """None also where the peer has not received the value yet. Fails on peers outside the collection."""
        return await self._get(key, _named(collection))

    async def get_private_data_many(self, collection: str, wanted: Sequence[str]) -> list[bytes | None]:
        return await self._get_many(wanted, _named(collection))

    async def get_private_data_hash(self, collection: str, key: str) -> bytes | None:
        """SHA-256 of the value, on members and others alike. None after a deletion or a purge."""
        return await self._request(requests.get_private_data_hash(key, _named(collection))) or None

    def put_private_data(self, collection: str, key: str, value: bytes) -> None:
        self._writes.put(_named(key), value, _named(collection))

    def del_private_data(self, collection: str, key: str) -> None:
        self._writes.delete(_named(key), _named(collection))

    def purge_private_data(self, collection: str, key: str) -> None:
        """Deletes the value and its history from every member's peer. Needs the application capability V2_5."""
        self._writes.purge(_named(key), _named(collection))

    def get_private_data_by_range(self, collection: str, start: str = "", end: str = "") -> ResultIterator[KeyValue]:
        """Ranges over private data have no pages, and a transaction that makes one may not write."""
        return self._range(*keys.plain_range(start, end), _named(collection))

    def get_private_data_by_partial_composite_key(
        self, collection: str, object_type: str, attributes: Sequence[str] = ()
    ) -> ResultIterator[KeyValue]:
        return self._range(*keys.partial_range(object_type, attributes), _named(collection))

    def get_private_data_query_result(self, collection: str, query: str) -> ResultIterator[KeyValue]:
        return self._iterate(requests.get_query_result(query, _named(collection)), requests.read_key_value)

    def set_private_data_validation_parameter(self, collection: str, key: str, policy: bytes) -> None:
        self._writes.set_validation_parameter(_named(key), policy, _named(collection))

    async def get_private_data_validation_parameter(self, collection: str, key: str) -> bytes | None:
        return await self._validation_parameter(key, _named(collection))

    # Beyond the state

    async def invoke_chaincode(self, name: str, arguments: Iterable[str | bytes], channel: str = "") -> Response:
        """Calls another chaincode in this transaction. On another channel it can only be read from."""
        encoded = (item.encode() if isinstance(item, str) else item for item in arguments)
        return requests.read_invocation(await self._request(requests.invoke_chaincode(name, encoded, channel)))

    def set_event(self, name: str, payload: bytes = b"") -> None:
        """One event at most a transaction: the last one counts. The peer adds chaincode and transaction id."""
        self.event = chaincode_event_pb2.ChaincodeEvent(event_name=_named(name), payload=payload)

    async def flush(self) -> None:
        """Sends what has been written. The shim calls it after a success."""
        writes, self._writes = self._writes, Writes()
        for request in writes.requests(self._peer.write_batch_size):
            await self._request(request)

    # How it is asked for

    async def _request(self, request: Request) -> bytes:
        async with self._one_at_a_time:
            return await self._peer.request(self.channel, self.tx_id, request)

    async def _get(self, key: str, collection: str = "") -> bytes | None:
        return await self._request(requests.get_state(key, collection)) or None

    async def _get_many(self, wanted: Sequence[str], collection: str = "") -> list[bytes | None]:
        size = self._peer.multiple_keys
        if size is None or len(wanted) == 1:
            return [await self._get(key, collection) for key in wanted]
        found: list[bytes | None] = []
        for start in range(0, len(wanted), size):
            some = wanted[start : start + size]
            found += requests.read_values(await self._request(requests.get_states(some, collection)), len(some))
        return found

    async def _validation_parameter(self, key: str, collection: str) -> bytes | None:
        metadata = requests.read_metadata(await self._request(requests.get_metadata(key, collection)))
        return metadata.get(requests.VALIDATION_PARAMETER)

    async def _page(self, request: Request) -> Page:
        response = requests.read_query_response(await self._request(request))
        return Page(tuple(map(requests.read_key_value, response.results)), requests.read_bookmark(response))

    def _range(self, start: str, end: str, collection: str = "") -> ResultIterator[KeyValue]:
        return self._iterate(requests.get_range(start, end, collection), requests.read_key_value)

    def _iterate(self, request: Request, read: Callable[[Any], Result]) -> ResultIterator[Result]:
        return ResultIterator(self._request, request, read)


def _named(name: str) -> str:
    if not name:
        raise ValueError("a key, a collection and an event have a name")
    return name

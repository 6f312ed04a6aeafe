"""`protos.Deliver` of one peer: blocks, filtered blocks, blocks with the organization's private data; and the orderer's
`Deliver`, which is the same but for the policy.

A client sends a signed SeekInfo, gets the blocks from `start` to `stop`, then a status, and may send the next one.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2
from google.protobuf.message import DecodeError

from hlf_devnet.access import AccessControl, AccessDenied, is_expired
from hlf_devnet.block_events import filtered_block

NEVER: Final = 2**64 - 1
_BLOCK, _FILTERED_BLOCK, _BLOCK_AND_PRIVATE_DATA = 2, 3, 4  # fields of DeliverResponse

Render = Callable[[Any, int, Any], bytes]
"""(block source, number of the block, SeekInfo) → a serialized `protos.DeliverResponse`; `orderer.DeliverResponse` has
the same form."""


class BlockSource(Protocol):
    """A peer's ledger or the orderer's."""

    @property
    def height(self) -> int: ...
    async def wait_for_height(self, height: int) -> None: ...
    def block_bytes(self, number: int) -> bytes: ...


class _Ended(Exception):
    """Delivery ends with a `common.Status`."""

    def __init__(self, status: int) -> None:
        super().__init__(common_pb2.Status.Name(status))
        self.status = status


class DeliverService:
    """Its methods yield serialized DeliverResponses: a block is sent on as it is stored, without being decoded.

    `serves`: whether there is a channel of that name. `block_resource`: what one must be allowed to get blocks.
    """

    def __init__(
        self,
        source: BlockSource,
        access: AccessControl,
        serves: Callable[[str], bool],
        block_resource: str = "event/Block",
    ) -> None:
        self._source = source
        self._access = access
        self._serves = serves
        self._block_resource = block_resource

    def Deliver(self, envelopes: AsyncIterator[Any], _: Any) -> AsyncIterator[bytes]:  # noqa: N802  protobuf's name
        return self._serve(envelopes, _render_block, self._block_resource)

    def DeliverFiltered(self, envelopes: AsyncIterator[Any], _: Any) -> AsyncIterator[bytes]:  # noqa: N802
        return self._serve(envelopes, _render_filtered, "event/FilteredBlock")

    def DeliverWithPrivateData(self, envelopes: AsyncIterator[Any], _: Any) -> AsyncIterator[bytes]:  # noqa: N802
        return self._serve(envelopes, _render_with_private_data, self._block_resource)

    async def _serve(self, envelopes: AsyncIterator[Any], render: Render, resource: str) -> AsyncIterator[bytes]:
        async for envelope in envelopes:
            status = common_pb2.SUCCESS
            try:
                async for response in self._deliver(envelope, render, resource):
                    yield response
            except _Ended as ended:
                status = ended.status
            yield events_pb2.DeliverResponse(status=status).SerializeToString()
            if status != common_pb2.SUCCESS:
                return

    async def _deliver(self, envelope: Any, render: Render, resource: str) -> AsyncIterator[bytes]:
        source = self._source
        seek, creator = self._open(envelope)
        self._check_access(resource, envelope, creator)
        number, stop = _bounds(seek, source.height)
        while True:
            if seek.behavior == ab_pb2.SeekInfo.FAIL_IF_NOT_READY and number >= source.height:
                raise _Ended(common_pb2.NOT_FOUND)
            await source.wait_for_height(number + 1)
            self._check_access(resource, envelope, creator)
            yield render(source, number, seek)
            if number == stop:
                return
            number += 1

    def _open(self, envelope: Any) -> tuple[Any, bytes]:
        """The SeekInfo and who sent it."""
        try:
            payload = common_pb2.Payload.FromString(envelope.payload)
            channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
            signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
        except DecodeError as error:
            raise _Ended(common_pb2.BAD_REQUEST) from error
        if not (payload.HasField("header") and self._is_timely(channel_header)):
            raise _Ended(common_pb2.BAD_REQUEST)
        if not self._serves(channel_header.channel_id):
            raise _Ended(common_pb2.NOT_FOUND)
        try:
            return ab_pb2.SeekInfo.FromString(payload.data), signature_header.creator
        except DecodeError as error:
            raise _Ended(common_pb2.BAD_REQUEST) from error

    def _is_timely(self, channel_header: Any) -> bool:
        return bool(channel_header.HasField("timestamp")) and self._access.is_timely(channel_header.timestamp)

    def _check_access(self, resource: str, envelope: Any, creator: bytes) -> None:
        """Again before each block: a certificate may expire or be revoked meanwhile, or its organization leave."""
        try:
            caller = self._access.check(resource, creator, envelope.payload, envelope.signature)
        except AccessDenied as error:
            raise _Ended(common_pb2.FORBIDDEN) from error
        if is_expired(caller):
            raise _Ended(common_pb2.FORBIDDEN)


def _bounds(seek: Any, height: int) -> tuple[int, int]:
    """The first and the last block to deliver."""
    if not (seek.HasField("start") and seek.HasField("stop")):
        raise _Ended(common_pb2.BAD_REQUEST)
    kind = seek.start.WhichOneof("Type")
    starts = {"oldest": 0, "newest": height - 1, "next_commit": height, "specified": seek.start.specified.number}
    start = starts.get(kind)
    if start is None or start > height:
        raise _Ended(common_pb2.NOT_FOUND)
    return start, _stop(seek, start, height)


def _stop(seek: Any, start: int, height: int) -> int:
    kind = seek.stop.WhichOneof("Type")
    if kind == "newest":
        return start if seek.start == seek.stop else height - 1
    if kind == "oldest":
        return start
    if kind != "specified":
        return NEVER
    stop = int(seek.stop.specified.number)
    if stop < start:
        raise _Ended(common_pb2.BAD_REQUEST)
    return stop


def _render_block(source: BlockSource, number: int, seek: Any) -> bytes:
    block = source.block_bytes(number)
    return _field(_BLOCK, _without_data(block) if seek.content_type == ab_pb2.SeekInfo.HEADER_WITH_SIG else block)


def _render_filtered(ledger: Any, number: int, _: Any) -> bytes:
    return _field(_FILTERED_BLOCK, filtered_block(number, ledger.block_bytes(number)))


def _render_with_private_data(ledger: Any, number: int, seek: Any) -> bytes:
    block = ledger.block_bytes(number)
    private = events_pb2.BlockAndPrivateData(private_data_map=ledger.private_data(number))
    if seek.content_type == ab_pb2.SeekInfo.HEADER_WITH_SIG:
        block = _without_data(block)
    return _field(_BLOCK_AND_PRIVATE_DATA, _field(1, block) + private.SerializeToString())


def _without_data(block: bytes) -> bytes:
    """Header and metadata, of any block but a configuration block."""
    decoded = common_pb2.Block.FromString(block)
    if _is_configuration(decoded):
        return block
    return bytes(common_pb2.Block(header=decoded.header, metadata=decoded.metadata).SerializeToString())


def _is_configuration(block: Any) -> bool:
    if len(block.data.data) != 1:
        return False
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(block.data.data[0]).payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    return bool(header.type == common_pb2.CONFIG)


def _field(number: int, message: bytes) -> bytes:
    """`message` as a length-delimited field of the message around it."""
    length, encoded = len(message), bytearray([number << 3 | 2])
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + message

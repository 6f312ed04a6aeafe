"""Blocks of a channel, as a stream, checked against the chain.

A stream is read as fast as its reader asks: a slow reader slows the peer, nothing piles up here.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2

from hlf.backoff import jittered
from hlf.blocks import Block, Checkpoint, FilteredBlock, decode_block, decode_filtered_block
from hlf.errors import ConnectionFailed, DeliverError, is_over_limit
from hlf.gateway import Gateway
from hlf.gateway.connections import Peer
from hlf.gateway.headers import new_headers
from hlf.identity import Signer
from hlf.silence import Watch

FOREVER = 2**64 - 1
"""The block that ends a stream without an end; Fabric wants one to be named."""

FullKind = Literal["full", "private"]
Start = int | Literal["newest"] | Checkpoint


class BlockVerifier(Protocol):
    """Judges a block beyond its hashes; `hlf.orderers.OrdererSignatures` is one."""

    def verify(self, block: Block) -> None:
        """Raises ValueError if the block must not be believed."""


@overload
def deliver(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = ...,
    stop: int | None = ...,
    kind: FullKind = ...,
    verifier: BlockVerifier | None = ...,
) -> AsyncGenerator[Block, None]: ...


@overload
def deliver(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = ...,
    stop: int | None = ...,
    kind: Literal["filtered"],
) -> AsyncGenerator[FilteredBlock, None]: ...


def deliver(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = "newest",
    stop: int | None = None,
    kind: FullKind | Literal["filtered"] = "full",
    verifier: BlockVerifier | None = None,
) -> AsyncGenerator[Any, None]:
    """The blocks from `start` to `stop`, both included; without `stop`, those to come as well.

    `start` is a block number, "newest" (the last one there is), or a Checkpoint: then the stream goes on with the
    block after it, which must link to it. Every block must follow the one before in number and, except in filtered
    ones, in hash, and hold the data its header names. `kind` "private" adds the private data that the peer has for
    collections of the signer's organization.

    Raises DeliverError when the stream breaks, its peer hangs (`hlf.silence`) or a block does not fit. One connection,
    no repetition: see `follow`.
    """
    return _Stream(gateway, signer, channel, kind, verifier).blocks(start, stop)


@overload
def follow(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = ...,
    kind: FullKind = ...,
    verifier: BlockVerifier | None = ...,
    on_failure: Callable[[DeliverError], None] | None = ...,
) -> AsyncGenerator[Block, None]: ...


@overload
def follow(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = ...,
    kind: Literal["filtered"],
    on_failure: Callable[[DeliverError], None] | None = ...,
    repeats_last: bool = ...,
) -> AsyncGenerator[FilteredBlock, None]: ...


async def follow(
    gateway: Gateway,
    signer: Signer,
    channel: str,
    *,
    start: Start = "newest",
    kind: FullKind | Literal["filtered"] = "full",
    verifier: BlockVerifier | None = None,
    on_failure: Callable[[DeliverError], None] | None = None,
    repeats_last: bool = False,
) -> AsyncGenerator[Any, None]:
    """Like `deliver` without end, and across lost connections: it connects again, to another gateway peer if need be,
    and goes on with the next block. No block is left out or given twice.

    `on_failure` hears of each interruption. With `repeats_last` the last filtered block comes once more after each:
    where nobody writes, nothing else would show that the stream is back. Raises DeliverError only when the chain is
    broken.
    """
    stream = _Stream(gateway, signer, channel, kind, verifier)
    waits = jittered()
    while True:
        try:
            async with aclosing(stream.blocks(start, None)) as blocks:
                async for block in blocks:
                    start = block.number if repeats_last else _after(block)
                    waits = jittered()
                    yield block
        except DeliverError as error:
            if error.is_chain_broken:
                raise
            if on_failure:
                on_failure(error)
        await asyncio.sleep(next(waits))


@dataclass
class _Stream:
    gateway: Gateway
    signer: Signer
    channel: str
    kind: str
    verifier: BlockVerifier | None
    was_silent: bool = False

    async def blocks(self, start: Start, stop: int | None) -> AsyncGenerator[Any, None]:
        chain = _Chain.from_start(start, self.verifier)
        async with aclosing(self._responses(await self._peer(), start, stop)) as responses:
            async for response in responses:
                if response.WhichOneof("Type") == "status":
                    _check_end(response.status, stop)
                    return
                yield chain.checked(response)
        raise DeliverError("the stream of blocks ended early", retriable=True)

    async def _responses(self, peer: Peer, start: Start, stop: int | None) -> AsyncGenerator[Any, None]:
        call = _METHODS[self.kind](peer)()
        watch = Watch(call, lambda seconds: self._ask(peer, seconds), is_suspected=self.was_silent)
        try:
            await call.write(self._request(start, stop))
            async for response in call:
                watch.heard()
                self.was_silent = False
                yield response
        except grpc.aio.AioRpcError as error:
            self.gateway.connections.avoid(peer)
            raise _failure(error) from error
        except (asyncio.CancelledError, asyncio.InvalidStateError) as error:
            if watch.is_silent and not _is_being_cancelled():
                raise self._silent(peer) from error
            if isinstance(error, asyncio.CancelledError):
                raise
            raise DeliverError("the stream of blocks ended early", retriable=True) from error
        finally:
            watch.stop()
            call.cancel()

    def _silent(self, peer: Peer) -> DeliverError:
        self.was_silent = True
        self.gateway.connections.avoid(peer)
        return DeliverError("the peer does not answer", code=grpc.StatusCode.DEADLINE_EXCEEDED, retriable=True)

    async def _ask(self, peer: Peer, seconds: float) -> None:
        """For the newest block, filtered; a refusal is an answer too. Raises AioRpcError."""
        call = peer.deliver.DeliverFiltered(timeout=seconds)
        try:
            await call.write(self._request("newest", "newest"))
            await call.read()
        finally:
            call.cancel()

    async def _peer(self) -> Peer:
        try:
            return await self.gateway.connections.ready_peer()
        except ConnectionFailed as error:
            raise DeliverError(error.message, code=grpc.StatusCode.UNAVAILABLE, retriable=True) from error

    def _request(self, start: Start, stop: int | Literal["newest"] | None) -> Any:
        headers = new_headers(self.signer, self.channel, common_pb2.DELIVER_SEEK_INFO)
        seek = ab_pb2.SeekInfo(
            start=_position(start),
            stop=_position(FOREVER if stop is None else stop),
            behavior=ab_pb2.SeekInfo.BLOCK_UNTIL_READY,
        )
        payload = common_pb2.Payload(data=seek.SerializeToString())
        payload.header.channel_header = headers.channel_header
        payload.header.signature_header = headers.signature_header
        message = payload.SerializeToString()
        return common_pb2.Envelope(payload=message, signature=self.signer.sign(message))


@dataclass
class _Chain:
    """What the next block must be."""

    number: int | None
    previous_hash: bytes | None
    verifier: BlockVerifier | None

    @classmethod
    def from_start(cls, start: Start, verifier: BlockVerifier | None) -> "_Chain":
        if isinstance(start, Checkpoint):
            return cls(start.block_number + 1, start.header_hash, verifier)
        return cls(None if start == "newest" else int(start), None, verifier)

    def checked(self, response: Any) -> Block | FilteredBlock:
        try:
            block = _decode(response)
            self._check(block)
        except ValueError as error:
            raise DeliverError(str(error), is_chain_broken=True) from error
        return block

    def _check(self, block: Block | FilteredBlock) -> None:
        if self.number is not None and block.number != self.number:
            raise ValueError(f"block {block.number} came where block {self.number} belongs")
        self.number = block.number + 1
        if isinstance(block, FilteredBlock):
            return
        if self.previous_hash is not None and block.previous_hash != self.previous_hash:
            raise ValueError(f"block {block.number} does not link to the block before it")
        self.previous_hash = block.header_hash
        if self.verifier:
            self.verifier.verify(block)


def _decode(response: Any) -> Block | FilteredBlock:
    match response.WhichOneof("Type"):
        case "block":
            return decode_block(response.block)
        case "filtered_block":
            return decode_filtered_block(response.filtered_block)
        case "block_and_private_data":
            both = response.block_and_private_data
            return decode_block(both.block, both.private_data_map)
        case other:
            raise ValueError(f"a peer delivered something else than a block: {other}")


def _after(block: Block | FilteredBlock) -> Start:
    return block.checkpoint if isinstance(block, Block) else block.number + 1


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _position(position: Start) -> Any:
    if position == "newest":
        return ab_pb2.SeekPosition(newest=ab_pb2.SeekNewest())
    number = position.block_number + 1 if isinstance(position, Checkpoint) else position
    return ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=number))


def _check_end(status: int, stop: int | None) -> None:
    """A stream with an end closes with SUCCESS; whatever else comes is a refusal."""
    if status == common_pb2.SUCCESS and stop is not None:
        return
    name = common_pb2.Status.Name(status)
    raise DeliverError(f"the stream of blocks ended: {name}", retriable=status == common_pb2.SERVICE_UNAVAILABLE)


def _failure(error: grpc.aio.AioRpcError) -> DeliverError:
    failure = DeliverError.from_rpc(error)
    failure.retriable = failure.retriable or is_over_limit(failure.code, failure.message)
    return failure


_METHODS: dict[str, Callable[[Peer], Any]] = {
    "full": lambda peer: peer.deliver.Deliver,
    "filtered": lambda peer: peer.deliver.DeliverFiltered,
    "private": lambda peer: peer.deliver.DeliverWithPrivateData,
}

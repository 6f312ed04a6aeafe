"""Puts envelopes in order, cuts blocks, signs and keeps them."""

import asyncio
import logging
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

from fabric_protos.common import common_pb2
from fabric_protos.orderer.etcdraft import metadata_pb2
from google.protobuf.message import DecodeError
from hlf.identity import SigningIdentity

from hlf_devnet.block_cutter import BatchSettings, BlockCutter
from hlf_devnet.blockstore import BlockStore, data_hash, header_bytes, header_hash
from hlf_devnet.database import (
    LedgerCorrupt,
    LedgerUnwritable,
    check_structure,
    connect,
    empty_log,
    log_is_long,
    reading,
    writing,
)
from hlf_devnet.msp import IdentityError, MspRegistry, VerifiedIdentity
from hlf_devnet.policy import ChannelPolicies

__all__ = ["BatchSettings", "BroadcastRefused", "LedgerCorrupt", "LedgerUnwritable", "Orderer"]

FILE_NAME = "orderer.sqlite3"
WRITERS = "/Channel/Writers"
METADATA_ENTRIES = 5

_log = logging.getLogger(__name__)


class BroadcastRefused(Exception):
    """An envelope that the orderer does not take. `status`: a `common.Status` number; the text is Fabric's `info`."""

    def __init__(self, status: int, info: str) -> None:
        super().__init__(info)
        self.status = status
        self.info = info


@dataclass(slots=True)
class _Waiting:
    envelope: bytes
    done: asyncio.Future[None]


class Orderer:
    """One orderer, one channel. Everything but the writing to disk happens in the event loop's thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        channel: str,
        signer: SigningIdentity,
        msps: MspRegistry,
        batch: BatchSettings,
    ) -> None:
        self._connection = connection
        self.folder = folder
        self._channel = channel
        self._signer = signer
        self._msps = msps
        self._batch = batch
        self._blocks = BlockStore(connection, folder)
        self._cutter: BlockCutter[_Waiting] = BlockCutter(batch)
        self._deadline = 0.0
        self._policies: ChannelPolicies | None = None
        self._incoming: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._new_block = asyncio.Event()
        self._failure: BaseException | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        channel: str,
        signer: SigningIdentity,
        msps: MspRegistry,
        batch: BatchSettings,
        genesis_block: bytes,
    ) -> Self:
        """Opens the chain in `folder` or starts one with `genesis_block`. LedgerCorrupt as for a peer's."""
        folder.mkdir(parents=True, exist_ok=True)
        with reading(folder, None):
            orderer = cls(connect(folder / FILE_NAME), folder, channel, signer, msps, batch)
        try:
            check_structure(orderer._connection, folder, orderer.height)
            orderer._blocks.check()
            if orderer.height == 0:
                orderer._keep(common_pb2.Block.FromString(genesis_block))
        except BaseException:
            orderer.close()
            raise
        return orderer

    @property
    def height(self) -> int:
        return self._blocks.height

    def use_policies(self, policies: ChannelPolicies) -> None:
        """Needed before the first submit: `/Channel/Writers` decides who may."""
        self._policies = policies

    async def submit(self, envelope: bytes) -> None:
        """Returns once the envelope is in a block on disk; raises BroadcastRefused (400 malformed or too large,
        403 signature or policy, 503 the orderer has stopped). The order of submits is the order in blocks."""
        self._check(envelope)
        if self._failure is not None:
            raise BroadcastRefused(common_pb2.SERVICE_UNAVAILABLE, "the orderer has stopped")
        waiting = _Waiting(envelope, asyncio.get_running_loop().create_future())
        self._incoming.put_nowait(waiting)
        await waiting.done

    async def run(self) -> None:
        """Cuts blocks until cancelled. Raises LedgerUnwritable when the disk refuses one; nothing is accepted then."""
        cut: deque[list[_Waiting]] = deque()
        try:
            while True:
                cut.extend(await self._next_batches())
                while cut:
                    await self._write(cut[0])
                    cut.popleft()
        except BaseException as error:
            self._refuse_all([waiting for batch in (*cut, self._cutter.cut()) for waiting in batch], error)
            raise

    def block_bytes(self, number: int) -> bytes:
        """The serialized block as the orderer signed it. KeyError if it is not there."""
        return self._blocks.content(number)

    async def blocks(self, start: int) -> AsyncIterator[bytes]:
        """Every block from `start` on, waiting for those to come."""
        number = start
        while True:
            while number < self.height:
                yield self._blocks.content(number)
                number += 1
            await self._new_block.wait()

    def close(self) -> None:
        self._connection.close()

    async def _next_batches(self) -> list[list[_Waiting]]:
        """Waits until at least one batch is complete or the time of the pending one is over."""
        while True:
            try:
                waiting = await self._next_envelope()
            except TimeoutError:
                return [self._cutter.cut()]
            was_empty = self._cutter.is_empty
            batches = self._cutter.add(waiting, len(waiting.envelope))
            if was_empty or batches:
                self._deadline = asyncio.get_running_loop().time() + self._batch.timeout_ms / 1000
            if batches:
                return batches

    async def _next_envelope(self) -> _Waiting:
        """TimeoutError when the pending batch must be cut first."""
        if not self._incoming.empty():
            return self._incoming.get_nowait()
        if self._cutter.is_empty:
            return await self._incoming.get()
        async with asyncio.timeout_at(self._deadline):
            return await self._incoming.get()

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        block = self._block([waiting.envelope for waiting in batch])
        writing_block = asyncio.ensure_future(asyncio.to_thread(self._store, block))
        try:
            await asyncio.shield(writing_block)
        except asyncio.CancelledError:
            await writing_block
            raise
        finally:
            if writing_block.done() and writing_block.exception() is None:
                self._written(block, batch)

    def _block(self, envelopes: Sequence[bytes]) -> Any:
        header = common_pb2.BlockHeader(
            number=self.height, previous_hash=self._blocks.last_hash, data_hash=data_hash(envelopes)
        )
        metadata = [b""] * METADATA_ENTRIES
        metadata[common_pb2.SIGNATURES] = self._signatures(header)
        return common_pb2.Block(
            header=header,
            data=common_pb2.BlockData(data=envelopes),
            metadata=common_pb2.BlockMetadata(metadata=metadata),
        )

    def _signatures(self, header: Any) -> bytes:
        """Over the metadata, the signature header and the block's header (`blockwriter.go`)."""
        consenter = metadata_pb2.BlockMetadata(consenter_ids=[1], next_consenter_id=2, raft_index=header.number + 2)
        value = common_pb2.OrdererBlockMetadata(
            last_config=common_pb2.LastConfig(index=0),
            consenter_metadata=common_pb2.Metadata(value=consenter.SerializeToString()).SerializeToString(),
        ).SerializeToString()
        signature_header = common_pb2.SignatureHeader(
            creator=self._signer.serialized, nonce=os.urandom(24)
        ).SerializeToString()
        signature = common_pb2.MetadataSignature(
            signature_header=signature_header,
            signature=self._signer.sign(value + signature_header + header_bytes(header)),
        )
        return bytes(common_pb2.Metadata(value=value, signatures=[signature]).SerializeToString())

    def _keep(self, block: Any) -> None:
        self._store(block)
        self._blocks.appended(block.header.number, header_hash(block.header), block.SerializeToString())

    def _store(self, block: Any) -> None:
        number = block.header.number
        with writing(self._connection, self.folder, number):
            self._connection.execute("BEGIN IMMEDIATE")
            self._blocks.insert(number, header_hash(block.header), block.SerializeToString())
            self._connection.execute("COMMIT")
            if log_is_long(self.folder / FILE_NAME):
                empty_log(self._connection)

    def _written(self, block: Any, batch: Sequence[_Waiting]) -> None:
        self._blocks.appended(block.header.number, header_hash(block.header), block.SerializeToString())
        self._new_block.set()
        self._new_block = asyncio.Event()
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(None)

    def _refuse_all(self, unwritten: Sequence[_Waiting], error: BaseException) -> None:
        """Nobody may wait for a block that never comes."""
        self._failure = error
        waiting = list(unwritten)
        while not self._incoming.empty():
            waiting.append(self._incoming.get_nowait())
        for each in waiting:
            if not each.done.done():
                each.done.set_exception(
                    BroadcastRefused(common_pb2.SERVICE_UNAVAILABLE, "the orderer stopped before it wrote the block")
                )

    def _check(self, content: bytes) -> None:
        """The filters of a standard channel, in Fabric's order (`orderer/common/msgprocessor`)."""
        try:
            envelope = common_pb2.Envelope.FromString(content)
            payload = common_pb2.Payload.FromString(envelope.payload)
            channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
            signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
        except DecodeError:
            _bad_request("could not determine channel ID: malformed envelope")
        if channel_header.channel_id != self._channel:
            raise BroadcastRefused(common_pb2.NOT_FOUND, "channel does not exist")
        if channel_header.type in (common_pb2.CONFIG, common_pb2.CONFIG_UPDATE, common_pb2.ORDERER_TRANSACTION):
            _bad_request("message is of type that cannot be processed directly")
        if not envelope.payload:
            _bad_request("Message was empty")
        size = len(envelope.payload) + len(envelope.signature)
        if size > self._batch.absolute_max_bytes:
            limit = self._batch.absolute_max_bytes
            _bad_request(f"message payload is {size} bytes and exceeds maximum allowed {limit} bytes")
        if not self._may_write(signature_header.creator, envelope):
            raise BroadcastRefused(
                common_pb2.FORBIDDEN,
                "implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the "
                "'Writers' sub-policies to be satisfied: permission denied",
            )

    def _may_write(self, creator: bytes, envelope: Any) -> bool:
        assert self._policies is not None, "use_policies comes before submit"
        self._msps.reload_revocations()
        try:
            identity = self._msps.validate(creator)
        except IdentityError as error:
            _log.info("envelope refused: %s", error)
            return False
        if datetime.now(UTC) > identity.not_after:
            _bad_request("broadcast client identity expired")
        return self._signed_by(identity, envelope) and self._policies.evaluate(WRITERS, [identity])

    def _signed_by(self, identity: VerifiedIdentity, envelope: Any) -> bool:
        return self._msps.verify(identity, envelope.payload, envelope.signature)


def _bad_request(info: str) -> NoReturn:
    raise BroadcastRefused(common_pb2.BAD_REQUEST, info)

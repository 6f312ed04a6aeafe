"""Puts envelopes in order, cuts blocks, signs and keeps them; a configuration update becomes a block of its own."""

import asyncio
import logging
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fabric_protos.common import common_pb2
from fabric_protos.orderer.etcdraft import metadata_pb2
from hlf.channel_config import config_of, last_config_number
from hlf.identity import SigningIdentity

from hlf_devnet.block_cutter import BatchSettings, BlockCutter
from hlf_devnet.blockstore import BlockStore, data_hash, header_bytes, header_hash
from hlf_devnet.broadcast import BroadcastRefused, check_envelope, proposed_configuration
from hlf_devnet.bundle import Bundles, ChannelBundle
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

__all__ = ["BatchSettings", "BroadcastRefused", "LedgerCorrupt", "LedgerUnwritable", "Orderer"]

FILE_NAME = "orderer.sqlite3"
METADATA_ENTRIES = 5

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """An envelope that was checked under `bundle`. `config`: the configuration block's envelope that it becomes, None
    for anything else."""

    envelope: bytes
    bundle: ChannelBundle
    config: bytes | None
    done: asyncio.Future[None]

    @property
    def content(self) -> bytes:
        return self.envelope if self.config is None else self.config


class Orderer:
    """One orderer, one channel. Everything but the writing to disk happens in the event loop's thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        channel: str,
        signer: SigningIdentity,
        bundles: Bundles,
    ) -> None:
        self._connection = connection
        self.folder = folder
        self._channel = channel
        self._signer = signer
        self._bundles = bundles
        self._blocks = BlockStore(connection, folder)
        self._bundle: ChannelBundle
        self._last_config = 0
        self._deadline = 0.0
        self._incoming: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._new_block = asyncio.Event()
        self._failure: BaseException | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        channel: str,
        signer: SigningIdentity,
        bundles: Bundles,
        genesis_block: bytes,
    ) -> Self:
        """Opens the chain in `folder` or starts one with `genesis_block`. LedgerCorrupt as for a peer's,
        ConfigurationRefused when the genesis block's configuration cannot be used."""
        folder.mkdir(parents=True, exist_ok=True)
        with reading(folder, None):
            orderer = cls(connect(folder / FILE_NAME), folder, channel, signer, bundles)
        try:
            check_structure(orderer._connection, folder, orderer.height)
            orderer._blocks.check()
            if orderer.height == 0:
                bundles.of(config_of(genesis_block))
                orderer._keep(common_pb2.Block.FromString(genesis_block))
            newest = common_pb2.Block.FromString(orderer.block_bytes(orderer.height - 1))
            orderer._adopt(last_config_number(newest))
        except BaseException:
            orderer.close()
            raise
        return orderer

    @property
    def height(self) -> int:
        return self._blocks.height

    @property
    def bundle(self) -> ChannelBundle:
        """The configuration in force: that of the newest configuration block."""
        return self._bundle

    def renew(self) -> None:
        """Makes the bundle anew, after what stands beside the configuration has changed."""
        self._bundle = self._bundles.of(self._bundle.config)

    async def submit(self, envelope: bytes) -> None:
        """Returns once the envelope is in a block on disk; raises BroadcastRefused (400 malformed, too large or an
        update that is not allowed, 403 signature or policy, 503 the orderer has stopped). The order of submits is the
        order in blocks. A configuration update is in force before anything after it is looked at."""
        config = self._checked(envelope)
        if self._failure is not None:
            raise BroadcastRefused(common_pb2.SERVICE_UNAVAILABLE, "the orderer has stopped")
        waiting = _Waiting(envelope, self._bundle, config, asyncio.get_running_loop().create_future())
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

    async def wait_for_height(self, height: int) -> None:
        """Returns once there are `height` blocks."""
        while self.height < height:
            await self._new_block.wait()

    async def blocks(self, start: int, msp_id: str) -> AsyncIterator[bytes]:
        """Every block from `start` on, waiting for those to come, for a peer of `msp_id`: it gets blocks only while its
        organization is in the channel's configuration."""
        number = start
        while True:
            while number < self.height and msp_id in self._bundle.organizations:
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
            if waiting.bundle is not self._bundle and not self._is_allowed_still(waiting):
                continue
            was_empty = self._cutter.is_empty
            batches = self._with_config(waiting) if waiting.config else self._cutter.add(waiting, len(waiting.envelope))
            if was_empty or batches:
                self._deadline = asyncio.get_running_loop().time() + self._bundle.batch.timeout_ms / 1000
            if batches:
                return batches

    def _with_config(self, waiting: _Waiting) -> list[list[_Waiting]]:
        """A configuration stands in a block alone, after what came before it."""
        pending = [] if self._cutter.is_empty else [self._cutter.cut()]
        return [*pending, [waiting]]

    def _is_allowed_still(self, waiting: _Waiting) -> bool:
        """Looks at an envelope again that was checked before the configuration changed; whoever waits is told."""
        try:
            waiting.config = self._checked(waiting.envelope)
        except BroadcastRefused as refused:
            if not waiting.done.done():
                waiting.done.set_exception(refused)
            return False
        waiting.bundle = self._bundle
        return True

    async def _next_envelope(self) -> _Waiting:
        """TimeoutError when the pending batch must be cut first."""
        if not self._incoming.empty():
            return self._incoming.get_nowait()
        if self._cutter.is_empty:
            return await self._incoming.get()
        async with asyncio.timeout_at(self._deadline):
            return await self._incoming.get()

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        block = self._block([waiting.content for waiting in batch], has_config=batch[0].config is not None)
        writing_block = asyncio.ensure_future(asyncio.to_thread(self._store, block))
        try:
            await asyncio.shield(writing_block)
        except asyncio.CancelledError:
            await writing_block
            raise
        finally:
            if writing_block.done() and writing_block.exception() is None:
                self._written(block, batch)

    def _block(self, envelopes: Sequence[bytes], *, has_config: bool) -> Any:
        header = common_pb2.BlockHeader(
            number=self.height, previous_hash=self._blocks.last_hash, data_hash=data_hash(envelopes)
        )
        metadata = [b""] * METADATA_ENTRIES
        metadata[common_pb2.SIGNATURES] = self._signatures(header, self.height if has_config else self._last_config)
        return common_pb2.Block(
            header=header,
            data=common_pb2.BlockData(data=envelopes),
            metadata=common_pb2.BlockMetadata(metadata=metadata),
        )

    def _signatures(self, header: Any, last_config: int) -> bytes:
        """Over the metadata, the signature header and the block's header (`blockwriter.go`)."""
        consenter = metadata_pb2.BlockMetadata(consenter_ids=[1], next_consenter_id=2, raft_index=header.number + 2)
        value = common_pb2.OrdererBlockMetadata(
            last_config=common_pb2.LastConfig(index=last_config),
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
        if batch[0].config is not None:
            self._adopt(block.header.number)
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

    def _checked(self, envelope: bytes) -> bytes | None:
        """The configuration block's envelope that an update becomes, None for anything else. BroadcastRefused."""
        message = check_envelope(envelope, self._channel, self._bundle)
        if not message.is_config_update:
            return None
        return proposed_configuration(message, self._channel, self._bundle, self._bundles, self._signer)

    def _adopt(self, number: int) -> None:
        """Puts the configuration of that block in force."""
        self._last_config = number
        self._bundle = self._bundles.of(config_of(self._blocks.content(number)))
        self._cutter: BlockCutter[_Waiting] = BlockCutter(self._bundle.batch)
        if number:
            _log.info("configuration %d is in force from block %d on", self._bundle.config.sequence, number)

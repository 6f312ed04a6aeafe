"""Brings one organization's ledger up to the orderer's, block by block."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable

from hlf_devnet.ledger import LedgerCorrupt, PeerLedger
from hlf_devnet.orderer import Orderer
from hlf_devnet.transient import TransientStore, gather_private_data
from hlf_devnet.validator import ValidatedBlock, Validator

_log = logging.getLogger(__name__)


class Committer:
    """Validate, gather private data, commit, tell the listeners: for each block in order.

    `others`: the transient stores of the other running peers, asked for this organization's private values that its own
    store lacks (what gossip does between peers). `listeners` are called in the event loop after each commit.
    """

    def __init__(
        self,
        orderer: Orderer,
        validator: Validator,
        ledger: PeerLedger,
        transient: TransientStore,
        others: Callable[[], Iterable[TransientStore]] = tuple,
    ) -> None:
        self.listeners: list[Callable[[ValidatedBlock], None]] = []
        self._orderer = orderer
        self._validator = validator
        self._ledger = ledger
        self._transient = transient
        self._others = others

    async def join(self, genesis_block: bytes) -> None:
        """Commits block 0."""
        await _finished(self._commit(genesis_block))

    async def run(self) -> None:
        """Until cancelled; a commit in progress is finished first."""
        if self._ledger.height > self._orderer.height:
            raise LedgerCorrupt(self._orderer.folder, self._orderer.height, "the orderer lost it, a peer has it")
        self._forget_committed()
        self._validator.register(self._ledger)
        try:
            async for block in self._orderer.blocks(self._ledger.height, self._ledger.msp_id):
                await _finished(self._commit(block))
        finally:
            self._validator.unregister(self._ledger)

    async def _commit(self, block: bytes) -> None:
        validated = self._validator.validate(block, self._ledger)
        stores = [self._transient, *self._others()]
        private_data = gather_private_data(validated, self._ledger.collection, stores)
        self._ledger.stage(validated, private_data)
        await asyncio.to_thread(self._ledger.sync_staged)
        self._ledger.staged_is_committed()
        self._transient.forget([tx.tx_id for tx in validated.transactions], self._ledger.height)
        if validated.updates.purged:
            self._transient.empty_log()
        for listener in self.listeners:
            listener(validated)
        invalid = sum(tx.code != 0 for tx in validated.transactions)
        _log.debug("%s committed block %d, %d invalid", self._ledger.msp_id, validated.number, invalid)

    def _forget_committed(self) -> None:
        """What a killed process committed and had no time to forget."""
        pending = self._transient.transactions()
        committed = [tx_id for tx_id in pending if self._ledger.validation_code(tx_id) is not None]
        self._transient.forget(committed, self._ledger.height)


async def _finished(work: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise

"""How transactions end, for a whole process, from one stream of filtered blocks.

A call for each transaction would hold one of the peer's 500 places while it waits (`peer.limits.concurrency`).
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fabric_protos.common import common_pb2

from hlf.blocks import FilteredBlock, decode_block
from hlf.deliver import Start, follow
from hlf.errors import CommitUnknown, DeliverError, EvaluateError, HlfError, SubmitError, TransactionInvalid
from hlf.gateway import CommitStatus, Gateway, Transaction
from hlf.identity import Signer

logger = logging.getLogger(__name__)

Commit = CommitStatus
"""How a transaction ended: transaction_id, block_number, validation_code, validation_name, is_valid."""

LOOKUP_TIMEOUT_SECONDS = 5.0
AGAIN_AFTER_SECONDS = 2.0
"""So long a submission that broke off may take to show in a block before the same transaction is handed in again."""
UNHEARD_SECONDS = 6.0
"""The same of one that an orderer took: what a leader had not passed on yet goes down with it."""
_NO_SUCH_TRANSACTION = "no such transaction ID"


class Pending:
    """A transaction whose end is awaited. Drop it with `forget` if it was never submitted."""

    def __init__(self, tracker: "CommitTracker", transaction_id: str) -> None:
        self.transaction_id = transaction_id
        self._tracker = tracker
        self._future: asyncio.Future[Commit] = asyncio.get_running_loop().create_future()

    async def outcome(self, timeout_seconds: float) -> Commit:
        """How the transaction ended, valid or not.

        When the stream has not told in time, the ledger is asked once by transaction id. Raises CommitUnknown when
        that does not tell either: the transaction may still be committed later.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(self._future)
        except TimeoutError:
            return await self._look_up()
        finally:
            self.forget()

    async def within(self, seconds: float) -> Commit | None:
        """The same as far as the stream tells in so many seconds; waiting goes on."""
        await asyncio.wait([self._future], timeout=seconds)
        return self._future.result() if self._future.done() else None

    def forget(self) -> None:
        """Stop waiting. `outcome` does so by itself."""
        self._tracker._forget(self)

    def settle(self, commit: Commit) -> None:
        if not self._future.done():
            self._future.set_result(commit)

    async def _look_up(self) -> Commit:
        try:
            commit = await self._tracker.lookup(self.transaction_id)
        except EvaluateError as error:
            raise CommitUnknown("no outcome yet", transaction_id=self.transaction_id) from error
        if self._future.done():
            return self._future.result()
        if commit is None:
            raise CommitUnknown("no outcome yet", transaction_id=self.transaction_id)
        return commit


@dataclass(frozen=True, slots=True)
class _HeightWaiter:
    height: int
    future: "asyncio.Future[None]"


class CommitTracker:
    """Follows a channel and settles the transactions that were announced with `expect`.

    Use it with `async with`, or have `run` run in a task of your own. It connects again by itself and goes on with
    the next block, so nothing that ends while it is away is missed. `signer` needs to be a reader of the channel;
    lookups ask its own organization's peers.
    """

    def __init__(self, gateway: Gateway, signer: Signer, channel: str) -> None:
        self._gateway = gateway
        self._signer = signer
        self._channel = channel
        self._pending: dict[str, set[Pending]] = {}
        self._waiters: set[_HeightWaiter] = set()
        self._lookups: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._height = 0
        self.last_failure: DeliverError | None = None
        """Why the stream is interrupted at present; None while it is not."""
        self.newest_own_block = -1
        """The newest block with a valid transaction that was announced here; -1 before the first."""

    async def __aenter__(self) -> Self:
        """Starts following, and waits for the first block as long as a connection may take; later if there is none."""
        self._task = asyncio.create_task(self.run(), name=f"commits of {self._channel}")
        try:
            await self.wait_for_height(1, self._gateway.timeouts.connect)
        except TimeoutError:
            logger.warning("no block of channel %s yet, trying on", self._channel)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def run(self) -> None:
        """Follows the channel until cancelled. Raises DeliverError if its chain is broken."""
        start: Start = self._height or "newest"
        try:
            async for block in follow(
                self._gateway,
                self._signer,
                self._channel,
                start=start,
                kind="filtered",
                on_failure=self._interrupted,
                repeats_last=True,
            ):
                self._seen(block)
        except DeliverError as error:
            self._interrupted(error)
            raise

    def expect(self, transaction_id: str) -> Pending:
        """Announces a transaction. To be called before it is submitted."""
        pending = Pending(self, transaction_id)
        self._pending.setdefault(transaction_id, set()).add(pending)
        return pending

    async def settle(self, transaction: Transaction, *, timeout_seconds: float = 30.0) -> Commit:
        """Submits a transaction and waits until it is committed.

        A submission may have gone down with the peer or the orderer that took it. So where it broke off, or nothing is
        heard of it for long, the very same transaction is handed in again. A ledger takes one id once, so it has its
        effect once.

        Raises SubmitError if it was refused, TransactionInvalid if it ended otherwise than valid, CommitUnknown if
        it is not known in time how it ended.
        """
        pending = self.expect(transaction.transaction_id)
        started = asyncio.get_running_loop().time()
        try:
            await self._hand_in(transaction, pending, timeout_seconds)
        except BaseException:
            pending.forget()
            raise
        spent = asyncio.get_running_loop().time() - started
        commit = await pending.outcome(max(timeout_seconds - spent, 0))
        if not commit.is_valid:
            raise TransactionInvalid(commit.transaction_id, commit.validation_code, commit.block_number)
        return commit

    @property
    def height(self) -> int:
        """The number of blocks known, 0 before the first came: one more than the last block's number."""
        return self._height

    @property
    def is_connected(self) -> bool:
        return self._height > 0 and self.last_failure is None

    async def wait_for_block(self, number: int, timeout: float) -> None:
        """Returns once block `number` was seen. TimeoutError if it does not come within `timeout` seconds."""
        await self.wait_for_height(number + 1, timeout)

    async def wait_for_height(self, height: int, timeout: float) -> None:
        """Returns once there are `height` blocks. TimeoutError if there are not within `timeout` seconds."""
        if self._height >= height:
            return
        waiter = _HeightWaiter(height, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await self._first_of(waiter.future)
        finally:
            self._waiters.discard(waiter)

    async def lookup(self, transaction_id: str) -> Commit | None:
        """How a transaction ended, from the ledger of a peer of the signer's organization; None if that peer has it
        in no block (yet). Raises EvaluateError."""
        contract = self._gateway.contract(self._signer, self._channel, "qscc")
        try:
            serialized = await contract.evaluate(
                "GetBlockByTxID",
                self._channel,
                transaction_id,
                target_organizations=[self._signer.msp_id],
                timeout=LOOKUP_TIMEOUT_SECONDS,
            )
        except EvaluateError as error:
            if _NO_SUCH_TRANSACTION in str(error):
                return None
            raise
        return _find(transaction_id, serialized)

    async def _hand_in(self, transaction: Transaction, pending: Pending, timeout_seconds: float) -> None:
        """Raises SubmitError for the first refusal only: after an attempt that broke off, that one may count."""
        seconds = UNHEARD_SECONDS
        try:
            await transaction.submit()
        except SubmitError as error:
            if not error.is_outcome_unknown:
                raise
            logger.warning("submit of %s broke off, waiting for its outcome", transaction.transaction_id)
            seconds = AGAIN_AFTER_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._hand_in_again(transaction, pending, seconds)

    async def _hand_in_again(self, transaction: Transaction, pending: Pending, seconds: float) -> None:
        """Each time that nothing is heard within so many seconds, until it is refused."""
        while await pending.within(seconds) is None:
            logger.warning("transaction %s is handed in again", transaction.transaction_id)
            try:
                await transaction.submit()
                seconds = UNHEARD_SECONDS
            except SubmitError as error:
                if not error.is_outcome_unknown:
                    return
                seconds = AGAIN_AFTER_SECONDS

    async def _first_of(self, future: "asyncio.Future[None]") -> None:
        """Waits for `future`, or for the end of the follower, whose error is then raised."""
        if self._task is None:
            await future
            return
        await asyncio.wait({future, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            self._task.result()

    def _seen(self, block: FilteredBlock) -> None:
        is_first = self._height == 0
        self.last_failure = None
        self._height = block.number + 1
        for transaction in block.transactions:
            self._settle(Commit(transaction.transaction_id, block.number, transaction.validation_code))
        for waiter in [waiter for waiter in self._waiters if waiter.height <= self._height]:
            if not waiter.future.done():
                waiter.future.set_result(None)
        if is_first:
            self._look_up_early_ones()

    def _settle(self, commit: Commit) -> None:
        announced = self._pending.pop(commit.transaction_id, set())
        if announced and commit.is_valid:
            self.newest_own_block = max(self.newest_own_block, commit.block_number)
        for pending in announced:
            pending.settle(commit)

    def _look_up_early_ones(self) -> None:
        """What was submitted before the first block came may stand in a block before that one."""
        for transaction_id in self._pending:
            task = asyncio.create_task(self._look_up_early_one(transaction_id))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up_early_one(self, transaction_id: str) -> None:
        try:
            commit = await self.lookup(transaction_id)
        except HlfError as error:
            logger.warning("lookup of %s failed: %s", transaction_id, error.message)
            return
        if commit:
            self._settle(commit)

    def _interrupted(self, failure: DeliverError) -> None:
        if self.last_failure is None:
            logger.warning("stream of channel %s interrupted: %s", self._channel, failure.message)
        self.last_failure = failure

    def _forget(self, pending: Pending) -> None:
        waiting = self._pending.get(pending.transaction_id)
        if waiting is not None:
            waiting.discard(pending)
            if not waiting:
                del self._pending[pending.transaction_id]

    async def _stop(self) -> None:
        tasks = [task for task in (self._task, *self._lookups) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _find(transaction_id: str, serialized: bytes) -> Commit | None:
    """A repeated id is marked invalid where it is repeated; what counts is its first place."""
    block = decode_block(common_pb2.Block.FromString(serialized))
    for transaction in block.transactions:
        if transaction.transaction_id == transaction_id:
            return Commit(transaction_id, block.number, transaction.validation_code)
    return None

"""One organization's peer: its identity, its ledger, its chaincodes, and who waits for its next block."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hlf.identity import SigningIdentity

from hlf_devnet.access import AccessControl
from hlf_devnet.chaincode_requests import TransactionContext
from hlf_devnet.chaincodes import Chaincodes
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.msp import IdentityError, MspRegistry
from hlf_devnet.transient import TransientStore
from hlf_devnet.validator import ValidatedBlock

SYSTEM_CHAINCODES: Final = frozenset({"qscc", "cscc", "_lifecycle"})


class CommittedTransaction(NamedTuple):
    """`code`: `peer.TxValidationCode`."""

    code: int
    block: int


class JoinRefused(Exception):
    """The peer does not join with that block; the text is worded after Fabric."""


class PeerStopped(Exception):
    """The peer was stopped while somebody waited for it."""


@dataclass(slots=True)
class Peer:
    """`address` is what error details and the status call it: host and port. `local`: the MSP of the peer's own folder,
    which decides on calls without a channel and on administrators."""

    msp_id: str
    address: str
    signer: SigningIdentity
    access: AccessControl
    local: MspRegistry
    ledger: PeerLedger
    transient: TransientStore
    chaincodes: Chaincodes[TransactionContext]
    _waiting: dict[str, list[asyncio.Future[CommittedTransaction]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def channel(self) -> str:
        return self.access.channel

    @property
    def has_joined(self) -> bool:
        return self.ledger.height > 0

    def serves(self, channel: str) -> bool:
        return channel == self.channel and self.has_joined

    def is_administrator(self, identity: bytes) -> bool:
        """Whether it is one of the peer's own organization, as the peer's own MSP folder tells."""
        try:
            self.local.reload_revocations()
            return "admin" in self.local.validate(identity).roles
        except IdentityError:
            return False

    def endorses(self, chaincode: str) -> bool:
        """Whether the chaincode is a system one, or a defined one that this organization has approved and installed."""
        if chaincode in SYSTEM_CHAINCODES:
            return True
        found = self.chaincodes.find(chaincode)
        return found is not None and found.client is not None

    async def committed(self, transaction_id: str) -> CommittedTransaction:
        """The fate of a transaction, once it stands in a block; raises PeerStopped."""
        if (known := self.ledger.validation_code(transaction_id)) is not None:
            return CommittedTransaction(*known)
        waiting: asyncio.Future[CommittedTransaction] = asyncio.get_running_loop().create_future()
        self._waiting[transaction_id].append(waiting)
        try:
            return await waiting
        finally:
            self._forget(transaction_id, waiting)

    def _forget(self, transaction_id: str, waiting: "asyncio.Future[CommittedTransaction]") -> None:
        others = self._waiting.get(transaction_id, [])
        if waiting in others:
            others.remove(waiting)
        if not others:
            self._waiting.pop(transaction_id, None)

    def on_commit(self, block: ValidatedBlock) -> None:
        """Tells those who wait for a transaction of `block`; the first of two with one id counts."""
        if block.changes_lifecycle:
            self.chaincodes.refresh()
        for transaction in block.transactions:
            for waiting in self._waiting.pop(transaction.tx_id, ()):
                if not waiting.done():
                    waiting.set_result(CommittedTransaction(transaction.code, block.number))

    def stop(self) -> None:
        """Ends all waiting. The ledger stays open: whoever opened it closes it."""
        for transaction_id in list(self._waiting):
            for waiting in self._waiting.pop(transaction_id):
                if not waiting.done():
                    waiting.set_exception(PeerStopped(f"the peer of {self.msp_id} was stopped"))

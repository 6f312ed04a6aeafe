"""The chaincodes that are part of every peer: qscc (the ledger), cscc (the configuration), _lifecycle (definitions)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fabric_protos.common import common_pb2
from fabric_protos.peer import proposal_response_pb2, query_pb2
from google.protobuf.message import DecodeError
from hlf.channel_config import channel_of

from hlf_devnet.access import AccessDenied
from hlf_devnet.identities import VerifiedIdentity
from hlf_devnet.lifecycle_scc import FOR_ADMINISTRATORS, LifecycleRefused, LifecycleScc
from hlf_devnet.peer import JoinRefused, Peer
from hlf_devnet.proposal import Proposal
from hlf_devnet.simulator import Simulator

Arguments = Sequence[bytes]
Invocation = Callable[[Arguments, Proposal, VerifiedIdentity, Simulator | None], Awaitable[bytes]]
_NOT_AN_ADMINISTRATOR: Final = "the caller is not an administrator of this peer's organization"


class _Refused(Exception):
    """The system chaincode answers with an error: the text, and a status like HTTP's."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class SystemChaincodes:
    """Those of one peer."""

    def __init__(self, peer: Peer, join: Callable[[bytes], Awaitable[None]]) -> None:
        """`join` joins the channel with its block 0, or raises JoinRefused."""
        self._peer = peer
        self._join = join
        self._scc = LifecycleScc(peer)
        self._invoke: dict[str, Invocation] = {
            "qscc": self._qscc,
            "cscc": self._cscc,
            "_lifecycle": self._lifecycle,
        }

    async def invoke(self, proposal: Proposal, caller: VerifiedIdentity, simulator: Simulator | None) -> Any:
        """A `protos.Response`. `simulator`: for `_lifecycle` on a channel."""
        try:
            payload = await self._invoke[proposal.chaincode](proposal.input.args, proposal, caller, simulator)
        except _Refused as refused:
            return proposal_response_pb2.Response(status=refused.status, message=str(refused))
        return proposal_response_pb2.Response(status=200, payload=payload)

    def invoke_from_chaincode(self, name: str, original: str) -> Any:
        """None of them lets itself be called by a chaincode (Fabric's `_lifecycle` would)."""
        deadlocks = " because of potential for deadlocks" if name == "qscc" else ""
        text = (
            f"Rejecting invoke of {name.upper()} from another chaincode{deadlocks}, "
            f"original invocation for '{original}'"
        )
        return proposal_response_pb2.Response(status=500, message=text)

    async def _qscc(self, arguments: Arguments, _: Proposal, caller: VerifiedIdentity, __: Simulator | None) -> bytes:
        if len(arguments) < 2:
            raise _Refused(f"Incorrect number of arguments, {len(arguments)}")
        function, channel = arguments[0].decode(errors="replace"), arguments[1].decode(errors="replace")
        if function != "GetChainInfo" and len(arguments) < 3:
            raise _Refused(f"missing 3rd argument for {function}")
        if not self._peer.serves(channel):
            raise _Refused(f"Invalid chain ID, {channel}")
        answer = _LEDGER_QUERIES.get(function)
        if answer is None:
            raise _Refused(f"access denied for [{function}][{channel}]: [Unmapped policy for qscc/{function}]")
        self._require(f"qscc/{function}", caller, f"access denied for [{function}][{channel}]: [{{}}]")
        return answer(self._peer, arguments[2] if len(arguments) > 2 else b"")

    async def _cscc(
        self, arguments: Arguments, proposal: Proposal, caller: VerifiedIdentity, _: Simulator | None
    ) -> bytes:
        if not arguments:
            raise _Refused("Incorrect number of arguments, 0")
        function = arguments[0].decode(errors="replace")
        if function == "GetChannels":
            self._require_member(function, caller)
            joined = [self._peer.channel] if self._peer.has_joined else []
            channels = [query_pb2.ChannelInfo(channel_id=name) for name in joined]
            return bytes(query_pb2.ChannelQueryResponse(channels=channels).SerializeToString())
        if len(arguments) < 2:
            raise _Refused(f"Incorrect number of arguments, {len(arguments)}")
        if function == "JoinChain":
            return await self._join_chain(arguments[1], proposal)
        if function not in ("GetConfigBlock", "GetChannelConfig"):
            raise _Refused(f"Requested function {function} not found.")
        channel = arguments[1].decode(errors="replace")
        if not self._peer.serves(channel):
            raise _Refused(
                f"access denied for [{function}][{channel}]: Failed to get policy manager for channel [{channel}]"
            )
        self._require(f"cscc/{function}", caller, f"access denied for [{function}][{channel}]: {{}}")
        return self._config_block() if function == "GetConfigBlock" else self._channel_config()

    async def _join_chain(self, block: bytes, proposal: Proposal) -> bytes:
        """No channel's policy can decide: that of the peer's own MSP does."""
        try:
            header = common_pb2.Block.FromString(block)
            channel = channel_of(header)
        except (DecodeError, ValueError) as error:
            raise _Refused("Failed to reconstruct the genesis block, malformed") from error
        if not self._peer.is_administrator(proposal.creator):
            raise _Refused(f"access denied for [JoinChain][{channel}]: [{_NOT_AN_ADMINISTRATOR}]")
        try:
            await self._join(block)
        except JoinRefused as error:
            raise _Refused(str(error)) from error
        return b""

    def _config_block(self) -> bytes:
        return self._peer.ledger.block_bytes(self._peer.ledger.config_number)

    def _channel_config(self) -> bytes:
        return bytes(self._peer.ledger.config.SerializeToString())

    async def _lifecycle(
        self, arguments: Arguments, proposal: Proposal, caller: VerifiedIdentity, simulator: Simulator | None
    ) -> bytes:
        if not arguments:
            raise _Refused("lifecycle scc must be invoked with arguments")
        if len(arguments) != 2:
            raise _Refused(f"lifecycle scc operations require exactly two arguments but received {len(arguments)}")
        function = arguments[0].decode(errors="replace")
        denied = "Failed to authorize invocation due to failed ACL check: {}"
        if not self._scc.knows(function):
            raise _Refused(denied.format(f"Unmapped policy for _lifecycle/{function}"))
        if function in FOR_ADMINISTRATORS:
            if not self._peer.is_administrator(proposal.creator):
                raise _Refused(denied.format(_NOT_AN_ADMINISTRATOR))
        elif simulator is not None:
            self._require(f"_lifecycle/{function}", caller, denied)
        try:
            return self._scc.invoke(function, arguments[1], simulator)
        except LifecycleRefused as refused:
            raise _Refused(str(refused), refused.status) from refused

    def _require(self, resource: str, caller: VerifiedIdentity, text: str) -> None:
        try:
            self._peer.access.check_resource(resource, caller)
        except AccessDenied as error:
            raise _Refused(text.format(error)) from error

    def _require_member(self, function: str, caller: VerifiedIdentity) -> None:
        if caller.msp_id != self._peer.msp_id:
            raise _Refused(f"access denied for [{function}]: the caller is not a member of this peer's organization")


def _chain_info(peer: Peer, _: bytes) -> bytes:
    return bytes(peer.ledger.chain_info().SerializeToString())


def _block_by_number(peer: Peer, argument: bytes) -> bytes:
    if not argument.isdigit():
        raise _Refused("Failed to parse block number with error invalid syntax")
    number = int(argument)
    if number >= peer.ledger.height:
        raise _Refused(f"Failed to get block number {number}, error no such block number [{number}] in index")
    return peer.ledger.block_bytes(number)


def _block_by_hash(peer: Peer, argument: bytes) -> bytes:
    number = peer.ledger.block_number_of_hash(argument)
    if number is None:
        text = f"no such block hash [{argument.hex()}] in index"
        raise _Refused(f"Failed to get block hash {argument.hex()}, error {text}")
    return peer.ledger.block_bytes(number)


def _transaction_by_id(peer: Peer, argument: bytes) -> bytes:
    identifier = argument.decode(errors="replace")
    transaction = peer.ledger.transaction(identifier)
    if transaction is None:
        text = f"no such transaction ID [{identifier}] in index"
        raise _Refused(f"Failed to get transaction with id {identifier}, error {text}")
    return bytes(transaction.SerializeToString())


def _block_by_transaction(peer: Peer, argument: bytes) -> bytes:
    identifier = argument.decode(errors="replace")
    number = peer.ledger.block_number_of_transaction(identifier)
    if number is None:
        text = f"no such transaction ID [{identifier}] in index"
        raise _Refused(f"Failed to get block for txID {identifier}, error {text}")
    return peer.ledger.block_bytes(number)


_LEDGER_QUERIES: Final[dict[str, Callable[[Peer, bytes], bytes]]] = {
    "GetChainInfo": _chain_info,
    "GetBlockByNumber": _block_by_number,
    "GetBlockByHash": _block_by_hash,
    "GetTransactionByID": _transaction_by_id,
    "GetBlockByTxID": _block_by_transaction,
}

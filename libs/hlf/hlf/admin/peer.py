"""What an administrator asks of one peer itself, past any gateway: to join a channel, to install a chaincode."""

from types import TracebackType
from typing import Any, Self

import grpc
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.peer import (
    chaincode_pb2,
    peer_pb2_grpc,
    proposal_pb2,
    query_pb2,
)
from fabric_protos.peer.lifecycle import lifecycle_pb2

from hlf.admin.errors import LifecycleError, PeerRefused
from hlf.admin.packaging import ChaincodePackage
from hlf.gateway.endpoint import Endpoint
from hlf.gateway.headers import new_headers
from hlf.identity import Signer

_ALREADY_JOINED = "already exists"
_ALREADY_INSTALLED = "already successfully installed"
_NO_CHANNEL = ""
_OK = 200


class PeerAdmin:
    """One peer, asked by an administrator of its organization. Use it with `async with`."""

    def __init__(self, endpoint: Endpoint, admin: Signer, *, timeout_seconds: float = 30) -> None:
        self._endpoint = endpoint
        self._admin = admin
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        self._channel = self._endpoint.open_channel({})
        self._endorser: Any = peer_pb2_grpc.EndorserStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(None)

    async def join(self, block: bytes) -> bool:
        """Joins the channel of a serialized configuration block, block 0 mostly. False if the peer had joined before.

        Raises PeerRefused.
        """
        return await self._repeatably("cscc", "JoinChain", block, already=_ALREADY_JOINED) is not None

    async def channels(self) -> tuple[str, ...]:
        """The channels that the peer has joined, by name. Raises PeerRefused."""
        answer = query_pb2.ChannelQueryResponse.FromString(await self._call("cscc", "GetChannels"))
        return tuple(sorted(channel.channel_id for channel in answer.channels))

    async def height(self, channel: str) -> int:
        """The number of blocks that the peer has of a channel. Raises PeerRefused."""
        answer = await self._call("qscc", "GetChainInfo", channel.encode(), channel=channel)
        return int(ledger_pb2.BlockchainInfo.FromString(answer).height)

    async def block(self, channel: str, number: int) -> bytes:
        """A block that the peer has, a serialized `common.Block`. Raises PeerRefused."""
        return await self._call("qscc", "GetBlockByNumber", channel.encode(), str(number).encode(), channel=channel)

    async def config_block(self, channel: str) -> bytes:
        """The newest configuration block that the peer has, a serialized `common.Block`. Raises PeerRefused."""
        return await self._call("cscc", "GetConfigBlock", channel.encode(), channel=channel)

    async def install(self, package: ChaincodePackage) -> bool:
        """False if the peer had this very package before. Raises LifecycleError if it took it for another one."""
        arguments = lifecycle_pb2.InstallChaincodeArgs(chaincode_install_package=package.content)
        answer = await self._repeatably(
            "_lifecycle", "InstallChaincode", arguments.SerializeToString(), already=_ALREADY_INSTALLED
        )
        if answer is None:
            return False
        installed = lifecycle_pb2.InstallChaincodeResult.FromString(answer).package_id
        if installed != package.package_id:
            raise LifecycleError(f"the peer calls the package {installed}, and it is {package.package_id}")
        return True

    async def installed(self) -> tuple[str, ...]:
        """The ids of all packages that the peer has. Raises PeerRefused."""
        arguments = lifecycle_pb2.QueryInstalledChaincodesArgs()
        answer = await self._call("_lifecycle", "QueryInstalledChaincodes", arguments.SerializeToString())
        found = lifecycle_pb2.QueryInstalledChaincodesResult.FromString(answer)
        return tuple(sorted(one.package_id for one in found.installed_chaincodes))

    async def _repeatably(self, chaincode: str, function: str, argument: bytes, *, already: str) -> bytes | None:
        try:
            return await self._call(chaincode, function, argument)
        except PeerRefused as refused:
            if already in refused.message:
                return None
            raise

    async def _call(self, chaincode: str, function: str, *arguments: bytes, channel: str = _NO_CHANNEL) -> bytes:
        headers = new_headers(self._admin, channel, common_pb2.ENDORSER_TRANSACTION, chaincode)
        proposal = proposal_pb2.Proposal(header=headers.serialized, payload=_payload(chaincode, function, arguments))
        message = proposal.SerializeToString()
        signed = proposal_pb2.SignedProposal(proposal_bytes=message, signature=self._admin.sign(message))
        try:
            answer = await self._endorser.ProcessProposal(signed, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise PeerRefused.from_rpc(error) from error
        if answer.response.status != _OK:
            raise PeerRefused(f"{self._endpoint.address} refused {function}: {answer.response.message}")
        return bytes(answer.response.payload)


def _payload(chaincode: str, function: str, arguments: tuple[bytes, ...]) -> bytes:
    spec = chaincode_pb2.ChaincodeSpec(
        type=chaincode_pb2.ChaincodeSpec.GOLANG,
        chaincode_id=chaincode_pb2.ChaincodeID(name=chaincode),
        input=chaincode_pb2.ChaincodeInput(args=[function.encode(), *arguments]),
    )
    invocation = chaincode_pb2.ChaincodeInvocationSpec(chaincode_spec=spec)
    return bytes(proposal_pb2.ChaincodeProposalPayload(input=invocation.SerializeToString()).SerializeToString())

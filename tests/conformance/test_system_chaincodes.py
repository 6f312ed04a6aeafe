"""What peers tell of themselves: ledger, configuration, chaincode definitions."""

from typing import Any

import pytest
from fabric_protos.common import common_pb2, configtx_pb2, ledger_pb2
from fabric_protos.peer import query_pb2, transaction_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2
from hlf.errors import HlfError
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support import raw_calls as raw
from support.devnet import Network
from support.transactions import Client


class System:
    def __init__(self, gateway: Gateway, signer: SigningIdentity) -> None:
        self._gateway = gateway
        self._signer = signer

    async def ask(self, chaincode: str, function: str, *args: str | bytes) -> bytes:
        contract = self._gateway.contract(self._signer, "care", chaincode)
        return await contract.evaluate(function, *args, target_organizations=["HospitalA"])

    async def refused(self, chaincode: str, function: str, *args: str | bytes) -> tuple[int, str]:
        with pytest.raises(HlfError) as caught:
            await self.ask(chaincode, function, *args)
        assert caught.value.chaincode_response is not None
        return caught.value.chaincode_response


@pytest.fixture
def system(gateway: Gateway, somebody: SigningIdentity) -> System:
    return System(gateway, somebody)


async def test_qscc_tells_height_and_hashes(system: System, gateway: Gateway, somebody: SigningIdentity) -> None:
    status = await Client(gateway, somebody).submit("put", "q", "v")
    info = ledger_pb2.BlockchainInfo.FromString(await system.ask("qscc", "GetChainInfo", "care"))
    assert info.height == status.block_number + 1
    newest = common_pb2.Block.FromString(await system.ask("qscc", "GetBlockByNumber", "care", str(info.height - 1)))
    assert newest.header.previous_hash == info.previousBlockHash
    by_hash = common_pb2.Block.FromString(await system.ask("qscc", "GetBlockByHash", "care", info.currentBlockHash))
    assert by_hash == newest


async def test_qscc_finds_a_transaction_and_its_block(
    system: System, gateway: Gateway, somebody: SigningIdentity
) -> None:
    status = await Client(gateway, somebody).submit("put", "q", "v")
    found = transaction_pb2.ProcessedTransaction.FromString(
        await system.ask("qscc", "GetTransactionByID", "care", status.transaction_id)
    )
    assert found.validationCode == 0
    block = common_pb2.Block.FromString(await system.ask("qscc", "GetBlockByTxID", "care", status.transaction_id))
    assert block.header.number == status.block_number
    assert found.transactionEnvelope.SerializeToString() in block.data.data


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("GetTransactionByID", "care", "abc"), "Failed to get transaction with id abc, error no such transaction ID"),
        (("GetBlockByTxID", "care", "abc"), "Failed to get block for txID abc, error no such transaction ID [abc]"),
        (("GetBlockByNumber", "care", "1000000"), "Failed to get block number 1000000, error no such block number"),
        (("GetBlockByNumber", "care", "x"), "Failed to parse block number with error"),
        (("GetChainInfo", "nowhere"), "Invalid chain ID, nowhere"),
        (("GetBlockByNumber", "care"), "missing 3rd argument for GetBlockByNumber"),
        (("GetChainInfo",), "Incorrect number of arguments, 1"),
    ],
)
async def test_qscc_says_what_it_does_not_find(system: System, args: tuple[str, ...], message: str) -> None:
    status, text = await system.refused("qscc", *args)
    assert status == 500
    assert text.startswith(message)


async def test_cscc_gives_the_configuration_block_and_the_channels(system: System, somebody: SigningIdentity) -> None:
    block = common_pb2.Block.FromString(await system.ask("cscc", "GetConfigBlock", "care"))
    assert block.header.number == 0
    config = configtx_pb2.Config.FromString(await system.ask("cscc", "GetChannelConfig", "care"))
    assert set(config.channel_group.groups["Application"].groups) == {"HospitalA", "HospitalB"}
    channels = query_pb2.ChannelQueryResponse.FromString(await system.ask("cscc", "GetChannels"))
    assert [channel.channel_id for channel in channels.channels] == ["care"]


async def test_channels_are_told_to_the_own_hospital_without_naming_one(
    network: Network, somebody: SigningIdentity
) -> None:
    async with raw.calls_of(network.endpoint("HospitalA")) as calls:
        answer = await calls.endorser.ProcessProposal(
            raw.proposal(somebody, "GetChannels", channel="", chaincode="cscc")
        )
        assert answer.response.status == 200
        other = raw.proposal(network.member("HospitalB"), "GetChannels", channel="", chaincode="cscc")
        refusal = await raw.refusal_of(calls.endorser.ProcessProposal(other))
        assert "creator org unknown" in refusal.message


async def test_lifecycle_tells_the_definition_and_who_approved_it(system: System) -> None:
    arguments = lifecycle_pb2.QueryChaincodeDefinitionArgs(name="conformance").SerializeToString()
    answer = await system.ask("_lifecycle", "QueryChaincodeDefinition", arguments)
    definition = lifecycle_pb2.QueryChaincodeDefinitionResult.FromString(answer)
    assert (definition.sequence, definition.version) == (1, "1.0")
    assert dict(definition.approvals) == {"HospitalA": True, "HospitalB": True}
    everything = await system.ask("_lifecycle", "QueryChaincodeDefinitions", b"")
    found: Any = lifecycle_pb2.QueryChaincodeDefinitionsResult.FromString(everything).chaincode_definitions
    assert [one.name for one in found] == ["conformance"]


async def test_lifecycle_answers_404_for_a_chaincode_that_is_not_defined(system: System) -> None:
    arguments = lifecycle_pb2.QueryChaincodeDefinitionArgs(name="nothing").SerializeToString()
    assert await system.refused("_lifecycle", "QueryChaincodeDefinition", arguments) == (
        404,
        "namespace nothing is not defined",
    )


async def test_installed_chaincodes_are_told_to_the_hospitals_administrators(
    system: System, gateway: Gateway, network: Network
) -> None:
    status, text = await system.refused("_lifecycle", "QueryInstalledChaincodes", b"")
    assert status == 500
    assert text.startswith("Failed to authorize invocation due to failed ACL check")
    administrator = System(gateway, network.member("HospitalA", role="admin"))
    answer = await administrator.ask("_lifecycle", "QueryInstalledChaincodes", b"")
    installed = lifecycle_pb2.QueryInstalledChaincodesResult.FromString(answer).installed_chaincodes
    assert [one.label for one in installed] == ["conformance_1.0"]

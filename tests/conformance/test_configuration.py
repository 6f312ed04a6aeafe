"""The channel's configuration, read and changed while the network runs: the same on devnet and on official peers.

One network for the module. Every change is taken from the configuration that is in force, so cases do not depend on
each other.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.peer import configuration_pb2
from hlf.admin import channel, signatures, validation
from hlf.admin.errors import BroadcastRefused, ConfigurationInvalid, PeerRefused, SignaturesMissing
from hlf.admin.ordering import OrdererClient
from hlf.errors import HlfError
from support import raw_calls as raw
from support.administration import Administration, revoke
from support.devnet import ORDERER_MSP_ID, Devnet, Network
from support.networks import running_network
from support.transactions import Client

A, B = "HospitalA", "HospitalB"


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with running_network(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(network: Network) -> Administration:
    return Administration(network)


def set_batch(messages: int, timeout: timedelta = timedelta(milliseconds=50)) -> Any:
    def edit(group: Any) -> None:
        for name, value in channel.batch_values(channel.BatchSettings(timeout, max_messages=messages)).items():
            group.groups["Orderer"].values[name].CopyFrom(channel.config_value(value))

    return edit


def set_acl(resource: str, policy: str) -> Any:
    def edit(group: Any) -> None:
        acls = configuration_pb2.ACLs()
        acls.acls[resource].policy_ref = policy
        group.groups["Application"].values["ACLs"].CopyFrom(channel.config_value(acls))

    return edit


async def refusal(admin: Administration, update: bytes, signers: list[str], **options: Any) -> BroadcastRefused:
    with pytest.raises(BroadcastRefused) as caught:
        await admin.broadcast(update, admin.sign(update, signers), **options)
    return caught.value


async def test_the_genesis_block_holds_a_configuration_that_can_be_used_and_changed(admin: Administration) -> None:
    genesis = common_pb2.Block.FromString(await admin.genesis_block())
    assert (genesis.header.number, genesis.header.previous_hash) == (0, b"")
    config = await admin.config()
    validation.check(config)
    assert set(config.channel_group.groups["Application"].groups) == {A, B}


async def test_a_peer_joins_once_and_says_so_the_second_time(admin: Administration, network: Network) -> None:
    genesis = await admin.genesis_block()
    async with admin.peer(A) as peer:
        assert await peer.join(genesis) is False
        assert await peer.channels() == ("care",)
    async with admin.peer(A, network.member(A)) as peer:
        with pytest.raises(PeerRefused, match=r"access denied for \[JoinChain\]\[care\]"):
            await peer.join(genesis)
    async with admin.peer(A) as peer:
        with pytest.raises(PeerRefused, match="Failed to reconstruct the genesis block"):
            await peer.join(b"\xff\xff")


async def test_the_orderer_tells_the_newest_configuration_block_to_readers(
    admin: Administration, network: Network
) -> None:
    await admin.change(set_batch(23), [ORDERER_MSP_ID])
    async with OrdererClient(network.orderer_endpoint) as orderer:
        block = await orderer.config_block(admin.administrator(A), "care")
    async with network.gateway(A) as gateway:
        contract = gateway.contract(network.member(A), "care", "cscc")
        told = await contract.evaluate("GetConfigBlock", "care", target_organizations=[A])
    assert common_pb2.Block.FromString(told).header == block.header
    metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
    signed = common_pb2.OrdererBlockMetadata.FromString(metadata.value)
    assert signed.last_config.index == block.header.number


async def test_an_update_signed_by_several_organizations_comes_into_force(admin: Administration) -> None:
    """Each signature is made by itself, from the update's bytes alone."""
    update = await admin.propose(set_acl("qscc/GetChainInfo", "/Channel/Application/Readers"))
    detached = [signatures.sign(update, admin.administrator(msp_id)) for msp_id in (B, A)]
    assert [signatures.signer_of(signature) for signature in detached] == [B, A]
    sequence = (await admin.config()).sequence + 1
    await admin.broadcast(update, detached)
    config = await admin.wait_for_sequence(sequence, B)
    assert "ACLs" in config.channel_group.groups["Application"].values


async def test_with_too_few_signatures_one_is_told_which_policy_and_who_has_not_signed(admin: Administration) -> None:
    update = await admin.propose(set_acl("peer/Propose", "/Channel/Application/Writers"))
    config = await admin.config()
    with pytest.raises(SignaturesMissing, match=r"/Channel/Application/Admins is not satisfied.*HospitalB"):
        signatures.require(config, configtx_pb2.ConfigUpdate.FromString(update), [A])
    refused = await refusal(admin, update, [A])
    assert (refused.status, refused.is_stale) == (common_pb2.BAD_REQUEST, False)
    assert refused.unsatisfied in ("[Group]  /Channel/Application", "[Value]  /Channel/Application/ACLs")
    assert "1 sub-policies were satisfied, but this policy requires 2 of the 'Admins' sub-policies" in refused.info


@pytest.mark.parametrize("signer", ["a client", "the same administrator twice", "over other bytes"])
async def test_signatures_that_do_not_count_are_as_if_they_were_not_there(
    admin: Administration, network: Network, signer: str
) -> None:
    update = await admin.propose(set_acl("peer/Propose", "/Channel/Application/Writers"))
    signed = admin.sign(update, [A])
    if signer == "a client":
        signed.append(signatures.sign(update, network.member(B)))
    elif signer == "over other bytes":
        signed.append(signatures.sign(update + b"\x00", admin.administrator(B)))
    else:
        signed += admin.sign(update, [A])
    with pytest.raises(BroadcastRefused, match="1 sub-policies were satisfied"):
        await admin.broadcast(update, signed)


async def test_a_stale_update_is_refused_and_says_so(admin: Administration) -> None:
    update = await admin.propose(set_batch(21))
    await admin.change(set_batch(22), [ORDERER_MSP_ID])
    refused = await refusal(admin, update, [ORDERER_MSP_ID])
    assert refused.status == common_pb2.BAD_REQUEST
    assert refused.is_stale
    assert "/Channel/Orderer/BatchSize" in refused.info


async def test_an_update_for_another_channel_is_refused(admin: Administration) -> None:
    update = configtx_pb2.ConfigUpdate.FromString(await admin.propose(set_batch(20)))
    update.channel_id = "elsewhere"
    refused = await refusal(admin, update.SerializeToString(), [ORDERER_MSP_ID])
    assert "ConfigUpdate for channel 'elsewhere' but envelope for channel 'care'" in refused.info
    envelope = signatures.envelope("elsewhere", update.SerializeToString(), [], admin.administrator(A))
    async with OrdererClient(admin.network.orderer_endpoint) as orderer:
        with pytest.raises(BroadcastRefused, match="BAD_REQUEST: channel does not exist"):
            await orderer.broadcast(envelope)


async def test_the_sender_must_be_a_writer(admin: Administration, network: Network) -> None:
    update = await admin.propose(set_batch(20))
    signed = admin.sign(update, [ORDERER_MSP_ID])
    peer = network.member(A, "peer1", role="peer")
    with pytest.raises(BroadcastRefused) as caught:
        await admin.broadcast(update, signed, peer)
    assert caught.value.status == common_pb2.FORBIDDEN
    assert caught.value.info.startswith("config update for existing channel did not pass initial checks: ")
    assert "permission denied" in caught.value.info


async def test_new_batch_settings_count_at_once(admin: Administration, network: Network) -> None:
    """With a timeout that nobody waits for, each transaction is a block."""
    await admin.change(set_batch(1, timedelta(minutes=30)), [ORDERER_MSP_ID])
    async with network.gateway(A) as gateway:
        client = Client(gateway, network.member(A))
        first, second = [await client.submit("put", f"batch-{number}", "v") for number in range(2)]
    assert second.block_number == first.block_number + 1
    await admin.change(set_batch(24), [ORDERER_MSP_ID])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_batch(0), "initializing channelconfig failed"),
        (lambda group: group.groups["Orderer"].values["BatchTimeout"].CopyFrom(timeout("5")), "invalid"),
        (lambda group: group.groups["Application"].groups.pop(A), "not satisfied"),
    ],
    ids=["no messages in a block", "a duration without a unit", "an organization that others throw out"],
)
async def test_a_configuration_that_nobody_could_use_is_refused(admin: Administration, edit: Any, message: str) -> None:
    update = await admin.propose(edit)
    refused = await refusal(admin, update, [ORDERER_MSP_ID, B])
    assert refused.status == common_pb2.BAD_REQUEST
    assert message in refused.info


def timeout(text: str) -> Any:
    from fabric_protos.orderer import configuration_pb2 as orderer_pb2

    return channel.config_value(orderer_pb2.BatchTimeout(timeout=text))


async def test_an_empty_mod_policy_is_refused_by_our_validator_and_by_the_orderer(admin: Administration) -> None:
    def edit(group: Any) -> None:
        set_batch(19)(group)
        group.groups["Orderer"].values["BatchSize"].mod_policy = ""

    config = configtx_pb2.Config()
    config.CopyFrom(await admin.config())
    edit(config.channel_group)
    with pytest.raises(ConfigurationInvalid, match="the value BatchSize has an empty mod_policy"):
        validation.check(config)
    refused = await refusal(admin, await admin.propose(edit), [ORDERER_MSP_ID])
    assert "invalid mod_policy for element [Value]  /Channel/Orderer/BatchSize: mod_policy not set" in refused.info


async def test_access_control_lists_of_the_channel_count(admin: Administration, network: Network) -> None:
    await admin.change(set_acl("qscc/GetChainInfo", "/Channel/Application/Admins"), [A, B])
    async with network.gateway(A) as gateway:
        for role, may in (("client", False), ("admin", False)):
            contract = gateway.contract(network.member(A, role=role), "care", "qscc")
            with pytest.raises(HlfError, match=r"access denied for \[GetChainInfo\]\[care\]") as caught:
                await contract.evaluate("GetChainInfo", "care", target_organizations=[A])
            assert "requires 2 of the 'Admins' sub-policies" in str(caught.value) or may
        await admin.change(set_acl("qscc/GetChainInfo", f"/Channel/Application/{A}/Admins"), [A, B])
        contract = gateway.contract(network.member(A, role="admin"), "care", "qscc")
        await contract.evaluate("GetChainInfo", "care", target_organizations=[A])
    await admin.change(lambda group: group.groups["Application"].values.pop("ACLs"), [A, B])


async def test_a_revoked_user_is_refused_within_a_block(admin: Administration, network: Network) -> None:
    """New proposals, transactions that were endorsed before, and the block stream that was open."""
    leaving = network.member(A, "leaving")
    crl = network.members[A].authority.crl([(leaving.identity.certificate.serial_number, datetime.now(UTC))])
    async with network.gateway(A) as gateway, raw.calls_of(network.endpoint(A)) as calls:
        client = Client(gateway, leaving)
        endorsed = await client.endorse("put", "revocation", "v")
        stream = calls.deliver.Deliver(iter([raw.seek(leaving, "newest", raw.NEVER)]))
        assert (await stream.read()).HasField("block")
        await admin.change(revoke(A, crl), [A])
        error = await client.refusal("get", "revocation")
        assert "access denied: channel [care] creator org [HospitalA]" in str(error)
        with pytest.raises(HlfError, match="FORBIDDEN"):
            await endorsed.submit()
        await Client(gateway, network.member(A)).submit("put", "revocation", "by another")
        while (answer := await stream.read()).HasField("block"):
            pass
        assert answer.status == common_pb2.FORBIDDEN


async def test_a_restart_keeps_the_configuration(admin: Administration, network: Network) -> None:
    config = await admin.change(set_batch(18), [ORDERER_MSP_ID])
    await network.stop_peer(B)
    await network.start_peer(B)
    assert (await admin.config(B)) == config
    if isinstance(network, Devnet):
        await network.kill()
        await network.start()
        assert (await admin.config(A)) == config

"""A hospital is added to a running network, takes part, and leaves: the same on devnet and on official peers.

One network for the module; its cases stand in the order of the hospital's life.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from fabric_protos.common import common_pb2, configtx_pb2
from hlf import policies
from hlf.admin import channel, signatures, update, validation
from hlf.admin.errors import BroadcastRefused, ConfigurationInvalid, SignaturesMissing
from hlf.admin.lifecycle import CommittedDefinition
from hlf.admin.msp import MspDefinition
from hlf.admin.packaging import ServiceAddress, package
from hlf.errors import HlfError
from support import raw_calls as raw
from support.administration import Administration, eventually
from support.devnet import Devnet, Network
from support.networks import running_network
from support.transactions import Client

A, B, C = "HospitalA", "HospitalB", "HospitalC"
CHAINCODE = "conformance"


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with running_network(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(network: Network) -> Administration:
    return Administration(network)


def add(network: Network, msp_id: str = C, *, group_name: str = "") -> Any:
    member = network.members[msp_id]

    def edit(group: Any) -> None:
        organization = channel.PeerOrganization(MspDefinition.from_dir(member.msp_dir, msp_id), (member.peer_address,))
        name = group_name or msp_id
        group.groups["Application"].groups[name].CopyFrom(channel.organization_group(organization))

    return edit


async def committed(admin: Administration) -> CommittedDefinition:
    async with admin.lifecycle(A) as lifecycle:
        found = await lifecycle.committed(CHAINCODE)
    assert found is not None
    return found


async def require(admin: Administration, members: list[str]) -> None:
    """Puts the next sequence of the chaincode in force, for which all `members` have to endorse; all approve it."""
    current = (await committed(admin)).definition
    policy = policies.parse(f"AND({','.join(repr(f'{msp_id}.peer') for msp_id in members)})")
    following = replace(current, sequence=current.sequence + 1, policy=policy)
    for msp_id in members:
        async with admin.lifecycle(msp_id) as lifecycle:
            approved = await lifecycle.approved(CHAINCODE, current.sequence)
            assert approved is not None
            await lifecycle.approve(following, approved[1])
    async with admin.lifecycle(A) as lifecycle:
        await eventually(lambda: lifecycle.commit(following, members))


@asynccontextmanager
async def load(network: Network) -> AsyncIterator[list[str]]:
    """Transactions of A and B all the while; yields the errors, and checks that there were transactions."""
    errors: list[str] = []
    written = 0
    ended = asyncio.Event()

    async def write() -> None:
        nonlocal written
        async with network.gateway(A) as gateway:
            client = Client(gateway, network.member(A))
            while not ended.is_set():
                try:
                    await client.submit("put", "load", "v", endorsers=[A, B])
                    written += 1
                except (HlfError, AssertionError) as error:
                    errors.append(str(error))

    writing = asyncio.create_task(write())
    try:
        yield errors
    finally:
        ended.set()
        await writing
    assert written > 0


async def test_a_hospital_that_is_there_is_not_added_twice(admin: Administration, network: Network) -> None:
    config = await admin.config()
    with pytest.raises(ConfigurationInvalid, match="already as asked for"):
        copy = configtx_pb2.Config()
        copy.CopyFrom(config)
        copy.channel_group.groups["Application"].groups[A].CopyFrom(
            config.channel_group.groups["Application"].groups[A]
        )
        update.compute("care", config, copy)
    add(network, A, group_name="HospitalX")(config.channel_group)
    with pytest.raises(ConfigurationInvalid, match="/Channel/Application/HospitalX: its MSP is named 'HospitalA'"):
        validation.check(config)


async def test_one_hospital_alone_cannot_add_another(admin: Administration, network: Network) -> None:
    await network.open_peer(C)
    change = await admin.propose(add(network))
    with pytest.raises(SignaturesMissing, match="still to sign: HospitalB"):
        signatures.require(await admin.config(), configtx_pb2.ConfigUpdate.FromString(change), [A])
    with pytest.raises(BroadcastRefused) as caught:
        await admin.broadcast(change, admin.sign(change, [A]))
    assert caught.value.unsatisfied == "[Group]  /Channel/Application"


async def test_a_peer_that_has_joined_nothing_knows_no_channel(admin: Administration, network: Network) -> None:
    async with admin.peer(C) as peer:
        assert await peer.channels() == ()
    async with network.gateway(C) as gateway:
        with pytest.raises(HlfError):
            await Client(gateway, network.member(C)).evaluate("get", "load")


async def test_a_hospital_is_added_without_an_outage_and_takes_part_once_it_has_approved(
    admin: Administration, network: Network
) -> None:
    member = network.members[C]
    wanted = package("conformance_1.0", ServiceAddress(member.chaincode_address))
    async with load(network) as errors:
        config = await admin.change(add(network), [A, B])
        async with admin.peer(C) as peer:
            assert await peer.join(await admin.genesis_block()) is True
            assert await peer.join(await admin.genesis_block()) is False
            assert await peer.channels() == ("care",)
            await peer.install(wanted)
        assert await admin.wait_for_sequence(config.sequence, C) == config
        await network.start_server("chaincode-C", member.chaincode_address, wanted.package_id)
        definition = (await committed(admin)).definition
        async with admin.lifecycle(C) as lifecycle:
            assert await eventually(lambda: lifecycle.approve(definition, wanted.package_id)) is True
        assert dict((await committed(admin)).approvals) == {A: True, B: True, C: True}
        async with network.gateway(C) as gateway:
            client = Client(gateway, network.member(C))
            assert await eventually(lambda: client.evaluate("get", "load", targets=[C])) == "v"
            await eventually(lambda: client.submit("put", "of C", "v", endorsers=[A, B]))
    assert errors == []


async def test_the_new_hospitals_endorsement_counts_with_the_next_sequence(
    admin: Administration, network: Network
) -> None:
    await require(admin, [A, B, C])
    async with network.gateway(C) as gateway:
        client = Client(gateway, network.member(C))
        await eventually(lambda: client.submit("put", "together", "v", endorsers=[A, B, C]))
        status = await client.commit(await client.endorse("put", "together", "w", endorsers=[A, B]))
        assert status.validation_name == "ENDORSEMENT_POLICY_FAILURE"
        collection = f"_implicit_org_{C}"
        await client.submit("put_private", collection, "k", transient={"value": b"private"}, endorsers=[A, B, C])
        assert await client.evaluate("get_private", collection, "k", targets=[C]) == "private"


async def test_a_kill_brings_the_opened_hospital_back(network: Network) -> None:
    if not isinstance(network, Devnet):
        pytest.skip("an official peer comes back when its process is started")
    await network.kill()
    await network.start()
    async with network.gateway(C) as gateway:
        client = Client(gateway, network.member(C))
        await eventually(lambda: client.submit("put", "together", "after a kill", endorsers=[A, B, C]))


async def test_a_hospital_that_leaves_is_a_stranger_from_that_block_on(admin: Administration, network: Network) -> None:
    await require(admin, [A, B])
    leaving = network.member(C)
    async with network.gateway(A) as gateway, raw.calls_of(network.endpoint(A)) as calls:
        client = Client(gateway, leaving)
        endorsed = await eventually(lambda: client.endorse("put", "left", "v", endorsers=[A, B]))
        stream = calls.deliver.Deliver(iter([raw.seek(leaving, "newest", raw.NEVER)]))
        assert (await stream.read()).HasField("block")
        await admin.change(lambda group: group.groups["Application"].groups.pop(C), [A, B])
        error = await client.refusal("get", "left", targets=[A])
        assert "creator org unknown, creator is malformed" in str(error)
        with pytest.raises(HlfError, match="FORBIDDEN"):
            await endorsed.submit()
        own = Client(gateway, network.member(A))
        await own.submit("put", "left", "by those who stay", endorsers=[A, B])
        while (answer := await stream.read()).HasField("block"):
            pass
        assert answer.status == common_pb2.FORBIDDEN
        assert dict((await committed(admin)).approvals) == {A: True, B: True}
        await eventually(lambda: names_nobody(own))


async def names_nobody(client: Client) -> None:
    """Gateways learn from discovery that an organization's peers do not take part any more."""
    try:
        await client.endorse("put", "k", "v", endorsers=[A, C])
    except HlfError as error:
        if error.unavailable_organizations == {C}:
            return
        raise
    raise HlfError("its peer endorses still", retriable=True)


async def test_its_peer_is_closed_for_good(network: Network) -> None:
    await network.close_peer(C)
    if isinstance(network, Devnet):
        await network.kill()
        await network.start()
        assert C not in {one["msp_id"] for one in (await network.status())["organizations"]}
    async with network.gateway(A) as gateway:
        await Client(gateway, network.member(A)).submit("put", "afterwards", "v", endorsers=[A, B])

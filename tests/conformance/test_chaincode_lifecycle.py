"""Chaincode definitions installed, approved, committed and upgraded while the network runs: the same on devnet and on
official peers.

One network for the module, and a chaincode `fresh` that its cases define step by step, in the order they stand in.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from fabric_protos.peer.lifecycle import lifecycle_pb2
from hlf import policies
from hlf.admin.errors import LifecycleError, PeerRefused
from hlf.admin.lifecycle import ChaincodeDefinition
from hlf.admin.packaging import ChaincodePackage, ServiceAddress, package
from hlf.errors import HlfError
from hlf.gateway import Gateway
from support.administration import Administration, eventually
from support.devnet import Devnet, Network
from support.networks import running_network
from support.ports import free_address
from support.transactions import Client

A, B = "HospitalA", "HospitalB"
BOTH = "AND('HospitalA.peer','HospitalB.peer')"
EITHER = "OR('HospitalA.peer','HospitalB.peer')"
FRESH = "fresh"


@dataclass
class Version:
    """A version of the chaincode, one server and package a hospital."""

    label: str
    suffix: str

    def __post_init__(self) -> None:
        self.addresses = {msp_id: free_address() for msp_id in (A, B)}

    def package(self, msp_id: str) -> ChaincodePackage:
        return package(self.label, ServiceAddress(self.addresses[msp_id]))

    async def start(self, network: Network) -> None:
        for msp_id, address in self.addresses.items():
            package_id = self.package(msp_id).package_id
            await network.start_server(f"{self.label}-{msp_id}", address, package_id, self.suffix)


FIRST, SECOND = Version("fresh_1", "-of-1"), Version("fresh_2", "-of-2")
DEFINITION = ChaincodeDefinition(FRESH, "1", 1, policies.parse(BOTH))


@pytest.fixture(scope="module", params=["devnet", "fabric"])
async def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with running_network(request.param, tmp_path_factory.mktemp(request.param)) as running:
        await FIRST.start(running)
        await SECOND.start(running)
        yield running


@pytest.fixture(scope="module")
def admin(network: Network) -> Administration:
    return Administration(network)


@pytest.fixture(scope="module")
async def gateway(network: Network) -> AsyncIterator[Gateway]:
    async with network.gateway(A) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway, network: Network) -> Client:
    return Client(gateway, network.member(A), chaincode=FRESH)


async def approve(admin: Administration, msp_id: str, definition: ChaincodeDefinition, package_id: str) -> bool:
    async with admin.lifecycle(msp_id) as lifecycle:
        return bool(await lifecycle.approve(definition, package_id))


async def test_a_package_is_installed_once(admin: Administration, network: Network) -> None:
    for msp_id in (A, B):
        wanted = FIRST.package(msp_id)
        async with admin.peer(msp_id) as peer:
            assert await peer.install(wanted) is True
            assert await peer.install(wanted) is False
            assert wanted.package_id in await peer.installed()
    async with admin.peer(A, network.member(A)) as peer:
        with pytest.raises(PeerRefused, match="Failed to authorize invocation due to failed ACL check"):
            await peer.install(FIRST.package(A))


@pytest.mark.parametrize("content", [b"", b"no package", FIRST.package(A).content[:200]])
async def test_what_is_no_package_is_not_installed(admin: Administration, content: bytes) -> None:
    broken = ChaincodePackage("broken", content)
    async with admin.peer(A) as peer:
        with pytest.raises(PeerRefused, match="could not parse as a chaincode install package"):
            await peer.install(broken)


async def test_a_chaincode_is_not_there_before_it_is_committed(admin: Administration, client: Client) -> None:
    async with admin.lifecycle(A) as lifecycle:
        assert await lifecycle.committed(FRESH) is None
        assert await lifecycle.approved(FRESH, 1) is None
    with pytest.raises(HlfError):
        await client.evaluate("get", "k", targets=[A])


async def test_the_first_sequence_is_one_and_a_wrong_one_names_the_next(admin: Administration) -> None:
    async with admin.lifecycle(A) as lifecycle:
        with pytest.raises(LifecycleError, match="requested sequence is 0, but first definable sequence number is 1"):
            await lifecycle.approve(replace(DEFINITION, sequence=0), "")
        with pytest.raises(LifecycleError, match="sequence 3 is larger than the next available sequence number 1"):
            await lifecycle.approve(replace(DEFINITION, sequence=3), "")
        with pytest.raises(LifecycleError, match="requested sequence is 2, but new definition must be sequence 1"):
            await lifecycle.readiness(replace(DEFINITION, sequence=2))
        with pytest.raises(LifecycleError, match="invalid chaincode name 'not/a/name'"):
            await lifecycle.approve(replace(DEFINITION, name="not/a/name"), "")


async def test_readiness_shows_who_has_approved_just_this_definition(admin: Administration) -> None:
    assert await approve(admin, A, DEFINITION, FIRST.package(A).package_id) is True
    assert await approve(admin, A, DEFINITION, FIRST.package(A).package_id) is False
    async with admin.lifecycle(A) as lifecycle:
        assert await lifecycle.approved(FRESH, 1) == (DEFINITION, FIRST.package(A).package_id)
        assert await lifecycle.readiness(DEFINITION) == {A: True, B: False}
        assert await lifecycle.readiness(replace(DEFINITION, version="other")) == {A: False, B: False}
        with pytest.raises(LifecycleError, match="fresh sequence 1 is not approved by HospitalB"):
            await lifecycle.commit(DEFINITION, [A, B])


async def test_a_peer_does_not_endorse_a_commit_that_its_hospital_has_not_approved(
    admin: Administration, gateway: Gateway
) -> None:
    arguments = lifecycle_pb2.CommitChaincodeDefinitionArgs(
        name=FRESH,
        version="1",
        sequence=1,
        endorsement_plugin="escc",
        validation_plugin="vscc",
        validation_parameter=DEFINITION.validation_parameter,
    ).SerializeToString()
    contract = gateway.contract(admin.administrator(A), "care", "_lifecycle")
    with pytest.raises(HlfError, match=r"chaincode definition not agreed to by this org \(HospitalB\)"):
        await contract.propose("CommitChaincodeDefinition", arguments, endorsing_organizations=[A, B]).endorse()


async def test_a_definition_that_all_have_approved_is_committed_once_and_runs(
    admin: Administration, client: Client
) -> None:
    await approve(admin, B, DEFINITION, FIRST.package(B).package_id)
    async with admin.lifecycle(A) as lifecycle:
        assert await lifecycle.readiness(DEFINITION) == {A: True, B: True}
        assert await lifecycle.commit(DEFINITION, [A, B]) is True
        assert await lifecycle.commit(DEFINITION, [A, B]) is False
        committed = await lifecycle.committed(FRESH)
    assert committed is not None
    assert (committed.definition, dict(committed.approvals)) == (DEFINITION, {A: True, B: True})
    await eventually(lambda: client.submit("put", "k", "v"))
    assert await client.evaluate("get", "k", targets=[A]) == "v-of-1"


async def test_installed_packages_tell_which_definition_refers_to_them(admin: Administration, gateway: Gateway) -> None:
    contract = gateway.contract(admin.administrator(A), "care", "_lifecycle")
    package_id = FIRST.package(A).package_id
    asked = lifecycle_pb2.QueryInstalledChaincodeArgs(package_id=package_id).SerializeToString()
    answer = await contract.evaluate("QueryInstalledChaincode", asked, target_organizations=[A])
    found = lifecycle_pb2.QueryInstalledChaincodeResult.FromString(answer)
    assert (found.label, found.package_id) == ("fresh_1", package_id)
    assert [(one.name, one.version) for one in found.references["care"].chaincodes] == [(FRESH, "1")]
    asked = lifecycle_pb2.GetInstalledChaincodePackageArgs(package_id=package_id).SerializeToString()
    answer = await contract.evaluate("GetInstalledChaincodePackage", asked, target_organizations=[A])
    package_found = lifecycle_pb2.GetInstalledChaincodePackageResult.FromString(answer)
    assert package_found.chaincode_install_package == FIRST.package(A).content
    unknown = lifecycle_pb2.GetInstalledChaincodePackageArgs(package_id="none:00").SerializeToString()
    with pytest.raises(HlfError, match="chaincode install package 'none:00' not found"):
        await contract.evaluate("GetInstalledChaincodePackage", unknown, target_organizations=[A])


async def test_the_committed_sequence_can_be_approved_with_other_packages_but_not_with_other_contents(
    admin: Administration, client: Client
) -> None:
    with pytest.raises(LifecycleError, match=r"redefine the current committed sequence \(1\).*expected Version '1'"):
        await approve(admin, B, replace(DEFINITION, version="2"), FIRST.package(B).package_id)
    assert await approve(admin, B, DEFINITION, "") is True
    await eventually(lambda: misses_hospital_b(client))
    assert await approve(admin, B, DEFINITION, FIRST.package(B).package_id) is True
    await eventually(lambda: client.submit("put", "k", "again"))


async def misses_hospital_b(client: Client) -> None:
    """A gateway that has not heard of it yet asks the peer, which says itself that it does not have the package."""
    try:
        await client.endorse("put", "k", "v")
    except HlfError as error:
        assert error.unavailable_organizations == {B} or "but chaincode is not installed" in str(error), error
        return
    raise HlfError("it works still", retriable=True)


async def test_old_and_new_version_run_side_by_side_until_the_next_sequence_commits(
    admin: Administration, client: Client, network: Network
) -> None:
    """The new definition also has another endorsement policy."""
    upgraded = ChaincodeDefinition(FRESH, "2", 2, policies.parse(EITHER))
    for msp_id in (A, B):
        async with admin.peer(msp_id) as peer:
            await peer.install(SECOND.package(msp_id))
        await approve(admin, msp_id, upgraded, SECOND.package(msp_id).package_id)
    assert await client.evaluate("get", "k", targets=[A]) == "again-of-1"
    await client.submit("put", "k", "still")
    if isinstance(network, Devnet):
        await network.wait_for_package(A, SECOND.package(A).package_id)
    before = await client.endorse("put", "k", "too late")
    async with admin.lifecycle(A) as lifecycle:
        assert await lifecycle.commit(upgraded, [A, B]) is True
    assert await client.evaluate("get", "k", targets=[A]) == "still-of-2"
    status = await client.commit(before)
    assert status.validation_name in ("MVCC_READ_CONFLICT", "EXPIRED_CHAINCODE")
    await client.submit("put", "k", "by A alone", endorsers=[A])


async def test_a_passed_sequence_cannot_be_approved_any_more(admin: Administration) -> None:
    with pytest.raises(LifecycleError, match="currently defined sequence 2 is larger than requested sequence 1"):
        await approve(admin, A, DEFINITION, SECOND.package(A).package_id)


async def test_a_restart_brings_back_packages_and_definitions(
    admin: Administration, client: Client, network: Network
) -> None:
    await network.stop_peer(B)
    await network.start_peer(B)
    await eventually(lambda: client.submit("put", "k", "after a restart"))
    if isinstance(network, Devnet):
        await network.kill()
        await network.start()
        await client.submit("put", "k", "after a kill")
        async with admin.peer(A) as peer:
            assert SECOND.package(A).package_id in await peer.installed()

"""Each hospital's public entry on the ledger, `org~`: its name and the keys for which others seal snapshots."""

from __future__ import annotations

import base64
import hashlib

from emr_model.ledger.answers import OrganizationView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import OrganizationProfile, SealingKey
from hlf.admin.lifecycle import is_passing
from hlf.commits import CommitTracker
from hlf.errors import EvaluateError, HlfError
from hlf.gateway import Contract, Endpoint, Gateway, Transaction
from hlf.identity import SigningIdentity

from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import Ports, peer_ports
from emr_network.topology import Organization, Topology
from emr_network.waiting import eventually

COMMIT_SECONDS = 30.0


class RegistrationFailed(Exception):
    """The transaction that registers a hospital was found invalid."""


async def register_organizations(home: Home, topology: Topology, ports: Ports) -> list[str]:
    """Registers hospitals whose entry is missing or out of date, each by its own administrator."""
    return [one.msp_id for one in topology.organizations if await register_organization(home, topology, ports, one)]


async def settle(home: Home, topology: Topology, ports: Ports) -> None:
    """Returns once each hospital's gateway gets the endorsements of all: after a start official peers first have to
    find each other. Nothing is submitted. Raises HlfError when they do not within a minute."""
    everybody = [one.msp_id for one in topology.organizations]
    for organization in topology.organizations:
        admin = _admin(home, organization, ports)
        async with Gateway(endpoints(home, organization, ports)) as gateway:
            contract = gateway.contract(admin, topology.channel, topology.chaincode.name)
            function = Function.LIST_ORGANIZATIONS.wire_name

            async def endorse(contract: Contract = contract, function: str = function) -> Transaction:
                return await contract.propose(function, endorsing_organizations=everybody).endorse()

            await eventually(endorse, _is_finding_itself)


def _is_finding_itself(error: HlfError) -> bool:
    return is_passing(error) or bool(error.unavailable_organizations)


async def register_organization(home: Home, topology: Topology, ports: Ports, organization: Organization) -> bool:
    """Registers one hospital, endorsed by all of the topology. False when its entry was up to date."""
    admin = _admin(home, organization, ports)
    profile = _profile(home, organization)
    async with Gateway(endpoints(home, organization, ports)) as gateway:
        contract = gateway.contract(admin, topology.channel, topology.chaincode.name)
        if await _published(contract, organization.msp_id) == profile:
            return False
        async with CommitTracker(gateway, admin, topology.channel) as tracker:
            everybody = [one.msp_id for one in topology.organizations]
            await eventually(lambda: _submit(contract, tracker, profile, everybody), _is_finding_itself)
    return True


def _admin(home: Home, organization: Organization, ports: Ports) -> SigningIdentity:
    return SigningIdentity.from_msp_dir(Enrolment(home, organization, ports).admin_folder, organization.msp_id)


def endpoints(home: Home, organization: Organization, ports: Ports) -> list[Endpoint]:
    """A hospital's peers as clients reach them, the first one first."""
    certificate = peer_organization(home, organization).tls_ca_certificate.read_bytes()
    return [Endpoint(ports.address(name), certificate) for name in peer_ports(organization)]


def _profile(home: Home, organization: Organization) -> OrganizationProfile:
    """A key's id is the beginning of its digest, so a rotated key has another one."""
    keyset = home.secret(organization.name, "sealing-public.keyset").read_bytes()
    key = SealingKey(hashlib.sha256(keyset).hexdigest()[:16], base64.b64encode(keyset).decode())
    return OrganizationProfile(organization.title, (key,))


async def _published(contract: Contract, msp_id: str) -> OrganizationProfile | None:
    """The hospital's entry as its own peer knows it, None without one. Raises EvaluateError for any other failure."""
    function = Function.GET_ORGANIZATION.wire_name
    try:
        answer = await contract.evaluate(function, msp_id, target_organizations=[msp_id])
    except EvaluateError as error:
        response = error.chaincode_response
        if response is None or not response[1].startswith(Code.ORGANIZATION_NOT_FOUND.name):
            raise
        return None
    published = OrganizationView.from_json(answer).organization
    return OrganizationProfile(published.name, published.sealing_keys)


async def _submit(
    contract: Contract, tracker: CommitTracker, profile: OrganizationProfile, endorsers: list[str]
) -> None:
    function = Function.REGISTER_ORGANIZATION.wire_name
    transaction = await contract.propose(function, profile.to_json(), endorsing_organizations=endorsers).endorse()
    pending = tracker.expect(transaction.transaction_id)
    await transaction.submit()
    commit = await pending.outcome(COMMIT_SECONDS)
    if not commit.is_valid:
        raise RegistrationFailed(f"transaction {commit.transaction_id} is {commit.validation_name}")

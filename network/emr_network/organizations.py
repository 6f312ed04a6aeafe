"""Each hospital's public entry on the ledger, `org~`: its name and the keys for which others seal snapshots."""

from __future__ import annotations

import base64
import hashlib

from emr_model.ledger.answers import OrganizationView
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.values import OrganizationProfile, SealingKey
from hlf.commits import CommitTracker
from hlf.errors import EvaluateError
from hlf.gateway import Contract, Endpoint, Gateway
from hlf.identity import SigningIdentity

from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import Ports
from emr_network.topology import Organization, Topology

COMMIT_SECONDS = 30.0


class RegistrationFailed(Exception):
    """The transaction that registers a hospital was found invalid."""


async def register_organizations(home: Home, topology: Topology, ports: Ports) -> list[str]:
    """Registers hospitals whose entry is missing or out of date, each by its own administrator."""
    return [one.msp_id for one in topology.organizations if await _register(home, topology, ports, one)]


async def _register(home: Home, topology: Topology, ports: Ports, organization: Organization) -> bool:
    folder = peer_organization(home, organization)
    endpoint = Endpoint(ports.address(f"peer-{organization.name}"), folder.tls_ca_certificate.read_bytes())
    admin = SigningIdentity.from_msp_dir(Enrolment(home, organization, ports).admin_folder, organization.msp_id)
    profile = _profile(home, organization)
    async with Gateway([endpoint]) as gateway:
        contract = gateway.contract(admin, topology.channel, topology.chaincode.name)
        if await _published(contract, organization.msp_id) == profile:
            return False
        async with CommitTracker(gateway, admin, topology.channel) as tracker:
            await _submit(contract, tracker, profile, [one.msp_id for one in topology.organizations])
    return True


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

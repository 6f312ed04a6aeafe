"""`emr network add-org`, `remove-org`, `upgrade-chaincode`, `revoke`: the network changed while it runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from emr_network.home import Home
from emr_network.topology import Chaincode, Organization, Topology, TopologyError, organization_of

from emr_deploy.administration.adding import Adding
from emr_deploy.administration.removing import Removing
from emr_deploy.administration.revoking import Revoking
from emr_deploy.administration.starting import InContainers, Starter, Supervised
from emr_deploy.administration.underway import Underway, begin, finish, underway
from emr_deploy.administration.upgrading import Upgrading
from emr_deploy.compose.deliver import Delivery
from emr_deploy.output import AsJson, Output
from emr_deploy.status import as_of
from emr_deploy.supervisor import SupervisorFailed
from emr_deploy.system import System, UsageError

CATCH_UP_SECONDS = 300.0

NetworkAlone = Annotated[bool, typer.Option("--network-alone", help="No databases, topics and services.")]


def register(network: typer.Typer) -> None:
    for command in (add_org, remove_org, upgrade_chaincode, revoke):
        network.command()(command)


def add_org(
    name: Annotated[str, typer.Argument(help="The hospital's short name, such as c.")],
    msp_id: Annotated[str, typer.Option(help="By default Hospital and the name.")] = "",
    title: Annotated[str, typer.Option(help="What people call it.")] = "",
    domain: Annotated[str, typer.Option(help="By default the name in place of the first hospital's.")] = "",
    peers: Annotated[int, typer.Option(help="How many peers; on Fabric up to 4.")] = 1,
    port: Annotated[int, typer.Option(help="Its first port; by default the next thousand.")] = 0,
    network_alone: NetworkAlone = False,
    as_json: AsJson = False,
) -> None:
    """Add a hospital to the running network, with everything it needs. Writes of the others go on."""
    out = Output(as_json=as_json)
    system = _supervised_system(out)
    known = underway(system.home)
    if known is not None and known.organization is not None and known.organization.name == name:
        newcomer = known.organization
    elif any(one.name == name and one.joined for one in system.topology.organizations):
        newcomer = system.topology.organization(name)  # a member already: what stands on the network may be missing
    else:
        newcomer = newcomer_of(system.topology, name, msp_id, title, domain, peers, port)
        system.topology.with_organization(newcomer)
    if newcomer in system.topology.organizations:
        finish(system.home)
    else:
        change = begin(system.home, Underway(kind="add-org", organization=newcomer))
        assert change.organization is not None
        newcomer = change.organization
        adding = Adding(system.home, system.topology, newcomer, system.ports, system.supervise, out.say)
        asyncio.run(adding.run())
    if not network_alone and system.runs_stores():
        asyncio.run(_open(system, newcomer, out))
    out.result(_told(newcomer), f"{newcomer.title} takes part")


def remove_org(
    name: Annotated[str, typer.Argument(help="The hospital, by its short name or MSP id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a hospital out of the running network. Its own data stays in EMR_HOME."""
    out = Output(as_json=as_json)
    system = _supervised_system(out)
    known = underway(system.home)
    if known is not None and known.kind == "remove-org" and known.organization and known.organization.name == name:
        leaving = known.organization
    else:
        leaving = system.topology.organization(name)
        system.topology.without_organization(leaving.name)
    if not yes:
        typer.confirm(f"Take {leaving.title} out of the network?", abort=True)
    begin(system.home, Underway(kind="remove-org", organization=leaving))
    if leaving in system.topology.organizations:
        asyncio.run(Removing(system.home, system.topology, leaving, system.ports, out.say).run())
    finish(system.home)
    system.supervise()
    out.result(_told(leaving), f"{leaving.title} is no member any more")


def upgrade_chaincode(
    version: Annotated[str, typer.Argument(help="The new version, such as 1.1.")],
    as_json: AsJson = False,
) -> None:
    """Put the installed contract in force as another version; old and new run side by side until then."""
    out = Output(as_json=as_json)
    system = _running_system(out)
    current = system.topology.chaincode
    if current.version == version:
        finish(system.home)
    else:
        following = system.topology.with_chaincode(version=version, slot=3 - current.slot, packaged=True).chaincode
        change = begin(system.home, Underway(kind="upgrade-chaincode", chaincode=following))
        assert change.chaincode is not None
        starter = _starter(system, change.chaincode)
        upgrading = Upgrading(system.home, system.topology, change.chaincode, system.ports, starter, out.say)
        asyncio.run(upgrading.run())
    if not system.ports.is_elsewhere:
        system.supervise()
    in_force = system.topology.chaincode
    out.result(
        {"version": in_force.version, "sequence": in_force.sequence},
        f"{in_force.name} {in_force.version} is in force, sequence {in_force.sequence}",
    )


def revoke(
    enrolment_id: Annotated[str, typer.Argument(help="As emr staff add printed it.")],
    org: Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")],
    as_json: AsJson = False,
) -> None:
    """Revoke an identity's certificates at the hospital's CA and tell the channel: nobody accepts them any more."""
    out = Output(as_json=as_json)
    system = _running_system(out)
    organization = system.topology.organization(org)
    revoking = Revoking(system.home, system.topology, organization, system.ports, out.say)
    asyncio.run(revoking.revoke(enrolment_id))
    system.deliver()
    out.result({"revoked": enrolment_id, "organization": organization.msp_id}, f"{enrolment_id} is revoked")


def _running_system(out: Output) -> System:
    """Raises NothingHere, SupervisorFailed."""
    system = System(Home.from_environment(), out.say)
    topology = system.topology
    if not system.ports.is_elsewhere and not system.supervisor.is_running():
        raise SupervisorFailed(f"the {topology.ledger} network is not running: start it with emr network up")
    return system


def _supervised_system(out: Output) -> System:
    """Raises NothingHere, SupervisorFailed; UsageError where hospitals are containers."""
    system = _running_system(out)
    if system.ports.is_elsewhere:
        raise UsageError("docker-compose.yaml says which hospitals there are: docs/compose.md tells how to change that")
    return system


def _starter(system: System, chaincode: Chaincode) -> Starter:
    if not system.ports.is_elsewhere:
        return Supervised(system.home, system.ports, system.supervise)
    delivery = Delivery(system.home, system.topology, system.ports, upcoming=chaincode)
    return InContainers(system.ports, delivery.deliver)


def newcomer_of(
    topology: Topology, name: str, msp_id: str, title: str, domain: str, peers: int, port: int
) -> Organization:
    """Raises UsageError."""
    first = topology.organizations[0]
    base = port or max(one.ports.peer for one in topology.organizations) + 1000
    services = max(one.ports.services for one in topology.organizations) + 100
    content: dict[str, Any] = {
        "name": name,
        "mspId": msp_id or f"Hospital{name.upper()}",
        "title": title or f"Hospital {name.upper()}",
        "domain": domain or f"{name}.{first.domain.partition('.')[2]}",
        "peers": peers,
        "joined": True,
        "ports": {"peer": base, "chaincode": base + 1, "ca": base + 3, "services": services},
    }
    try:
        return organization_of(content)
    except TopologyError as error:
        raise UsageError(str(error)) from error


async def _open(system: System, organization: Organization, out: Output) -> None:
    """The hospital's databases, topics and services; returns once its rows are those of all blocks."""
    await system.open_hospital(organization)
    height = (await system.network.status()).height
    give_up_at = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
    while (position := await as_of(system, organization.name)) is None or position < height - 1:
        if asyncio.get_running_loop().time() > give_up_at:
            raise SupervisorFailed(f"the rows of {organization.name} are as of block {position}, of {height - 1}")
        await asyncio.sleep(0.2)
    out.say(f"ready  rows of {organization.name} as of block {position}")


def _told(organization: Organization) -> dict[str, Any]:
    return {"name": organization.name, "mspId": organization.msp_id, "domain": organization.domain}

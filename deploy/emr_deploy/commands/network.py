"""`emr network …`: the ledger network alone, and one hospital's peers stopped and started."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from emr_network.definition import definition_in_force, describe_policy
from emr_network.expiry import expiring
from emr_network.home import TOPOLOGY, Home
from hlf.admin.lifecycle import CommittedDefinition

from emr_deploy.commands import administration, consortium
from emr_deploy.networks.base import NetworkStatus, PeerStatus
from emr_deploy.output import AsJson, NewTopology, OnLedger, Output
from emr_deploy.supervisor import SupervisorFailed
from emr_deploy.system import System

network = typer.Typer(help="The ledger network: peers and orderers, CAs, the contract.", no_args_is_help=True)

Org = Annotated[str | None, typer.Option(help="One hospital's peers alone, by its short name or MSP id.")]
FreePorts = Annotated[bool, typer.Option(help="Take free ports instead of the documented ones.")]


def register(app: typer.Typer) -> None:
    administration.register(network)
    consortium.register(network)
    app.add_typer(network, name="network")


@network.command()
def up(
    free_ports: FreePorts = False,
    topology: NewTopology = TOPOLOGY,
    ledger: OnLedger = None,
    as_json: AsJson = False,
) -> None:
    """Start the network; enrol admin, service and registrar; register the hospitals on the ledger."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    system.prepare(free_ports=free_ports, topology=topology, ledger=ledger)
    asyncio.run(system.network_up())
    asyncio.run(_show(system, out))


@network.command()
def make(
    free_ports: FreePorts = False,
    topology: NewTopology = TOPOLOGY,
    ledger: OnLedger = None,
    as_json: AsJson = False,
) -> None:
    """Make certificates, secrets and configuration for nodes that something else starts; start nothing."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    system.make(free_ports=free_ports, topology=topology, ledger=ledger)
    system.network.make()
    out.result({"made": str(system.home.root)}, f"everything is in {system.home.root}; emr network found comes next")


@network.command()
def found(as_json: AsJson = False) -> None:
    """Form the channel on running nodes, deploy the contract, enrol identities, register the hospitals."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    asyncio.run(system.found_network())
    asyncio.run(_show(system, out))


@network.command()
def down(as_json: AsJson = False) -> None:
    """Stop the network; the ledger stays."""
    out = Output(as_json=as_json)
    System(Home.from_environment(), out.say).network_down()
    out.result({"stopped": True}, "the network is stopped")


@network.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove ledger, certificates and everything that stands on them: the same as emr reset."""
    from emr_deploy.commands.running import reset as reset_everything

    reset_everything(yes=yes, as_json=as_json)


@network.command()
def status(as_json: AsJson = False) -> None:
    """Show heights, the contract in force and who approved it, and certificates that expire within 30 days."""
    asyncio.run(_show(System(Home.from_environment()), Output(as_json=as_json)))


@network.command()
def stop(org: Org = None, as_json: AsJson = False) -> None:
    """Stop one hospital's peers, or without --org the whole network."""
    if org is None:
        down(as_json)
        return
    system = System(Home.from_environment())
    system.network.stop(system.topology.organization(org))
    asyncio.run(_show(system, Output(as_json=as_json)))


@network.command()
def start(org: Org = None, as_json: AsJson = False) -> None:
    """Start one hospital's peers again, or without --org the whole network."""
    if org is None:
        up(as_json=as_json)
        return
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    asyncio.run(system.start_peers(system.topology.organization(org)))
    asyncio.run(_show(system, out))


async def _show(system: System, out: Output) -> None:
    """Raises SupervisorFailed when no peer runs."""
    answer = await system.network.status()
    if not any(peer.running for peer in answer.peers):
        raise SupervisorFailed("the network is not running: start it with emr network up")
    definition = await definition_in_force(system.home, system.topology, system.ports)
    ending = expiring(system.home)
    if out.as_json:
        out.result(
            {
                "ledger": system.topology.ledger,
                **_as_dict(answer),
                "definition": _definition_as_dict(definition),
                "expiring": [vars(one) for one in ending],
            }
        )
        return
    out.say(f"ledger {system.topology.ledger}, height {answer.height}")
    out.table([_row(one) for one in answer.peers])
    for line in _definition_lines(definition):
        out.say(line)
    out.table([{"certificate": one.file, "expires": f"{one.expires:%Y-%m-%d}"} for one in ending], "expiring soon")


def _as_dict(answer: NetworkStatus) -> dict[str, Any]:
    return {"height": answer.height, "organizations": [vars(one) for one in answer.peers], "calls": answer.calls}


def _row(peer: PeerStatus) -> dict[str, Any]:
    return {
        "hospital": peer.msp_id,
        "name": peer.name,
        "peer": "running" if peer.running else "stopped",
        "height": "" if peer.height is None else peer.height,
        "endpoint": peer.endpoint,
    }


def _definition_as_dict(committed: CommittedDefinition | None) -> dict[str, Any] | None:
    if committed is None:
        return None
    definition = committed.definition
    return {
        "name": definition.name,
        "version": definition.version,
        "sequence": definition.sequence,
        "policy": describe_policy(definition.policy),
        "approvals": dict(committed.approvals),
    }


def _definition_lines(committed: CommittedDefinition | None) -> list[str]:
    if committed is None:
        return ["no contract is in force"]
    definition = committed.definition
    approved = ", ".join(sorted(msp_id for msp_id, yes in committed.approvals.items() if yes)) or "nobody"
    missing = ", ".join(sorted(msp_id for msp_id, yes in committed.approvals.items() if not yes))
    return [
        f"contract {definition.name} {definition.version}, sequence {definition.sequence}: "
        f"endorsed by {describe_policy(definition.policy)}",
        f"approved by {approved}" + (f"; not by {missing}" if missing else ""),
    ]

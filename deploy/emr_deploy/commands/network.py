"""`emr network …`: the ledger network alone, and one hospital's peer stopped and started."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from emr_network.devnet import DevnetControl
from emr_network.home import Home

from emr_deploy.output import AsJson, Output
from emr_deploy.system import System

network = typer.Typer(help="The ledger network: devnet, the CA, the chaincode.", no_args_is_help=True)

Org = Annotated[str | None, typer.Option(help="One hospital's peer alone, by its short name or MSP id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(network, name="network")


@network.command()
def up(
    free_ports: Annotated[bool, typer.Option(help="Take free ports instead of the documented ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the network; enrol admin, service and registrar; register the hospitals on the ledger."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    system.prepare(free_ports=free_ports)
    asyncio.run(system.network_up())
    _show(system, out)


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
    """Show the ledger's height and each hospital's peer."""
    _show(System(Home.from_environment()), Output(as_json=as_json))


@network.command()
def stop(org: Org = None, as_json: AsJson = False) -> None:
    """Stop one hospital's peer, or without --org the whole network."""
    if org is None:
        down(as_json)
        return
    system = System(Home.from_environment())
    DevnetControl.at(system.ports).stop(system.topology.organization(org).msp_id)
    _show(system, Output(as_json=as_json))


@network.command()
def start(org: Org = None, as_json: AsJson = False) -> None:
    """Start one hospital's peer again, or without --org the whole network."""
    if org is None:
        up(free_ports=False, as_json=as_json)
        return
    system = System(Home.from_environment())
    DevnetControl.at(system.ports).start(system.topology.organization(org).msp_id)
    _show(system, Output(as_json=as_json))


def _show(system: System, out: Output) -> None:
    answer = DevnetControl.at(system.ports).status()
    if out.as_json:
        out.result(answer)
        return
    out.say(f"height {answer['height']}")
    out.table([_row(one) for one in answer["organizations"]])


def _row(organization: dict[str, Any]) -> dict[str, Any]:
    return {
        "hospital": organization["msp_id"],
        "peer": "running" if organization["running"] else "stopped",
        "height": organization["height"],
        "endpoint": organization["endpoint"],
    }

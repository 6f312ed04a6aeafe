"""`emr compose …`: what the one-shot containers of docker-compose.yaml run. Nobody types these."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import typer
from emr_network.home import TOPOLOGY, Home

from emr_deploy.bundles import make_histories
from emr_deploy.commands.demo import PATIENTS, tell_and_show
from emr_deploy.compose import steps
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System

compose = typer.Typer(help="The steps that docker-compose.yaml runs once.", no_args_is_help=True)
FromTopology = Annotated[Path, typer.Option("--topology", help="The hospitals, the first time.")]


def register(app: typer.Typer) -> None:
    app.add_typer(compose, name="compose")


@compose.command()
def volumes(topology: FromTopology = TOPOLOGY) -> None:
    """Give each volume to the one process that may write it."""
    steps.give_volumes(steps.containers_topology(topology))
    Output(as_json=False).say("every volume belongs to the one who writes it")


@compose.command()
def prepare(topology: FromTopology = TOPOLOGY) -> None:
    """Make certificates, keys and configuration, and deliver to each process what it may read."""
    steps.prepare(Home.from_environment(), steps.containers_topology(topology), Output(as_json=False).say)


@compose.command()
def found() -> None:
    """Form the channel on running nodes, deploy the contract, enrol identities, make databases and topics."""
    asyncio.run(steps.found(Home.from_environment(), Output(as_json=False).say))


@compose.command()
def tell(as_json: AsJson = False) -> None:
    """Run both workflows over HTTP on the running system, with people and patients of their own."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    bundles = list(make_histories(PATIENTS, seed=secrets.randbelow(2**31)))
    asyncio.run(tell_and_show(system, bundles, out, tag=secrets.token_hex(3)))

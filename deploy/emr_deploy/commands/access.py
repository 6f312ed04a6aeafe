"""`emr token`, `emr client`: the keys to a development system."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from emr_network.home import Home

from emr_deploy.clients import new_client_key, register_keys
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError
from emr_deploy.tokens import token_by_key, token_for

client_app = typer.Typer(help="Systems that sign their requests for tokens.", no_args_is_help=True)

Org = Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")]


def register(app: typer.Typer) -> None:
    app.command()(token)
    app.add_typer(client_app, name="client")


def token(
    actor: Annotated[str, typer.Argument(help="The token's subject: admin, or whoever was enrolled.")],
    org: Org,
    key: Annotated[Path | None, typer.Option(help="Sign an assertion with this key (JWK or PEM).", exists=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Print a bearer token for an actor of a hospital."""
    system = System(Home.from_environment())
    organization = system.topology.organization(org)
    try:
        if key is None:
            issued = asyncio.run(token_for(system.home, system.ports, organization.name, actor))
        else:
            issued = asyncio.run(token_by_key(system.ports, organization.name, actor, key))
    except ValueError as error:
        raise UsageError(str(error)) from error
    Output(as_json=as_json).result({"token": issued, "subject": actor, "organization": organization.name}, issued)


@client_app.command("add")
def add_client(
    actor: Annotated[str, typer.Argument(help="The subject for which the client gets tokens.")],
    org: Org,
    jwks: Annotated[Path | None, typer.Option(help="The client's public keys; else one is made.", exists=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Register a client that signs assertions (SMART Backend Services); what it may do, its enrolment says."""
    system = System(Home.from_environment())
    organization = system.topology.organization(org).name
    try:
        if jwks is None:
            made = str(new_client_key(system.home, organization, actor))
            Output(as_json=as_json).result({"subject": actor, "key": made}, made)
        else:
            count = register_keys(system.home, organization, actor, jwks.read_text(encoding="utf-8"))
            Output(as_json=as_json).result({"subject": actor, "keys": count}, f"{count} keys of {actor}")
    except ValueError as error:
        raise UsageError(str(error)) from error

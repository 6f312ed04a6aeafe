"""`emr indexer status`: how far each hospital's rows are behind the ledger."""

from __future__ import annotations

import asyncio

import typer
from emr_network.home import Home

from emr_deploy.output import AsJson, Output
from emr_deploy.status import status_of
from emr_deploy.system import System

indexer = typer.Typer(help="From blocks to rows.", no_args_is_help=True)
PROCESSES = ("relay", "projector", "indexer")


def register(app: typer.Typer) -> None:
    app.add_typer(indexer, name="indexer")


@indexer.callback()
def _group() -> None:
    """A group with one command would otherwise be that command."""


@indexer.command()
def status(as_json: AsJson = False) -> None:
    """Show relay, projector and API, and each hospital's lag in blocks."""
    out = Output(as_json=as_json)
    report = asyncio.run(status_of(System(Home.from_environment())))
    processes = [one for one in report.processes if one.name.startswith(PROCESSES)]
    if as_json:
        shown = report.as_dict()
        names = {one.name for one in processes}
        kept = [one for one in shown["processes"] if one["name"] in names]
        out.result({"processes": kept, "hospitals": shown["hospitals"]})
    else:
        out.table(report.hospital_rows())
        out.table([row for row in report.process_rows() if row["process"].startswith(PROCESSES)])
    if not all(one.healthy for one in processes):
        raise typer.Exit(1)

"""`emr up`, `down`, `reset`, `status`, `logs`, `scale`."""

from __future__ import annotations

import asyncio
import re
import subprocess
from typing import Annotated

import typer
from emr_network.home import TOPOLOGY, Home

from emr_deploy.guide import guide
from emr_deploy.output import AsJson, NewTopology, OnLedger, Output
from emr_deploy.status import status_of
from emr_deploy.system import NothingHere, System, UsageError

SCALE = re.compile(r"([a-z]+)=(\d+)")


def register(app: typer.Typer) -> None:
    for command in (up, found, down, reset, status, logs, scale):
        app.command()(command)


def up(
    free_ports: Annotated[bool, typer.Option(help="Take free ports instead of the documented ones.")] = False,
    topology: NewTopology = TOPOLOGY,
    ledger: OnLedger = None,
    quiet: Annotated[bool, typer.Option(help="Do not print URLs, tokens and curl lines at the end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the whole system and leave it running; what runs already is left alone."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    system.prepare(free_ports=free_ports, topology=topology, ledger=ledger)
    asyncio.run(system.up())
    shown = asyncio.run(guide(system))
    out.result(shown.as_dict(), *(() if quiet else shown.lines()))


def found(as_json: AsJson = False) -> None:
    """Make what services need of running nodes and stores: channel, identities, databases, topics."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    asyncio.run(system.found())
    out.result({"founded": str(system.home.root)}, "services can start")


def down(as_json: AsJson = False) -> None:
    """Stop the system; everything it holds stays."""
    out = Output(as_json=as_json)
    was_running = System(Home.from_environment(), out.say).down()
    out.result({"stopped": was_running}, "stopped; emr up goes on where it ended" if was_running else "nothing ran")


def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the system and remove everything it holds: certificates, keys, records."""
    home = Home.from_environment()
    if not yes:
        typer.confirm(f"Remove everything in {home.root}?", abort=True)
    out = Output(as_json=as_json)
    System(home, out.say).reset()
    out.result({"removed": str(home.root)}, f"removed {home.root}")


def status(as_json: AsJson = False) -> None:
    """Show every process, its health, the ledger's height and how far the read models lag behind."""
    out = Output(as_json=as_json)
    report = asyncio.run(status_of(System(Home.from_environment(), out.say)))
    if as_json:
        out.result(report.as_dict())
    else:
        out.table(report.process_rows())
        out.table(report.hospital_rows())
    if not report.is_healthy:
        raise typer.Exit(1)


def logs(
    process: Annotated[str, typer.Argument(help="A process, as emr status names it.")],
    lines: Annotated[int, typer.Option("-n", help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("-f", help="Go on as the process writes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a process has written."""
    path = Home.from_environment().logs / f"{process}.log"
    if not re.fullmatch(r"[a-z0-9-]+", process):
        raise UsageError("that is no process")
    if not path.exists():
        raise NothingHere(f"{process} has written nothing yet")
    if follow:
        subprocess.run(["tail", "-n", str(lines), "-F", str(path)], check=False)
        return
    written = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    Output(as_json=as_json).result({"process": process, "lines": written}, *written)


def scale(
    target: Annotated[str, typer.Argument(help="A service and a number, such as records=3.")],
    org: Annotated[str, typer.Option(help="The hospital, by its short name.")],
    as_json: AsJson = False,
) -> None:
    """Run more or fewer instances of a hospital's service."""
    match = SCALE.fullmatch(target)
    if match is None:
        raise UsageError("say it as records=3")
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    asyncio.run(system.scale(match[1], org, int(match[2])))
    name = system.topology.organization(org).name
    urls = [one.url for one in system.processes if (one.service, one.organization) == (match[1], name)]
    out.result({"service": match[1], "organization": name, "urls": urls}, *urls)

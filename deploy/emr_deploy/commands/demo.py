"""`emr demo`: a system of its own, the story told on it, the tables at its end, and the system gone again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from emr_network.home import TOPOLOGY, Home

from emr_deploy.bundles import PatientBundle, make_histories, read_bundles
from emr_deploy.callers import Callers
from emr_deploy.output import AsJson, NewTopology, OnLedger, Output
from emr_deploy.story.tables import tables, wait_for_rows
from emr_deploy.story.telling import Teller
from emr_deploy.story.whole import tell
from emr_deploy.system import DEMO, System

PATIENTS = 9
SEED = 2026


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    folder: Annotated[Path | None, typer.Argument(help="FHIR bundles, one a patient.", exists=True)] = None,
    topology: NewTopology = TOPOLOGY,
    ledger: OnLedger = None,
    as_json: AsJson = False,
) -> None:
    """Start two hospitals, run both workflows over HTTP, tell every step, show the tables, and stop again."""
    out = Output(as_json=as_json)
    started = time.monotonic()
    bundles = read_bundles(folder) if folder else list(make_histories(PATIENTS, seed=SEED))
    system = System(_home_of_the_demo(), out.say)
    system.reset()
    system.prepare(free_ports=True, topology=topology, ledger=ledger)
    try:
        asyncio.run(_start_and_tell(system, bundles, out))
    finally:
        system.down()
    seconds = time.monotonic() - started
    out.say(
        f"\nThe system is down; logs and data stay in {system.home.root} until the next demo. {seconds:.0f} s in all."
    )


def _home_of_the_demo() -> Home:
    """Beside what `emr up` keeps, so that a demo touches no records."""
    return Home(Home.from_environment().root / DEMO)


async def _start_and_tell(system: System, bundles: Sequence[PatientBundle], out: Output) -> None:
    await system.up()
    await tell_and_show(system, bundles, out)


async def tell_and_show(system: System, bundles: Sequence[PatientBundle], out: Output, *, tag: str = "") -> None:
    """The story on a running system, and its tables. A `tag` keeps its people apart from those of other tellings."""
    teller = Teller(out.say)
    async with Callers(system.home, system.ports) as callers:
        last_block = await tell(system.topology, callers, bundles, teller, tag=tag)
    await _show_tables(system, last_block, out)
    if out.as_json:
        out.result([vars(step) for step in teller.steps])


async def _show_tables(system: System, last_block: int, out: Output) -> None:
    out.say("\nThe read models")
    hospitals = list(system.topology.organizations)
    seconds = await wait_for_rows(system.home, hospitals, last_block)
    out.say(f"    every row up to block {last_block} was there {seconds * 1000:.0f} ms after the last answer")
    for hospital in hospitals:
        block, found = await tables(system.home, hospital)
        for title, rows in found.items():
            out.table(rows, f"{hospital.title}: {title.lower()}, as of block {block}")

"""`emr indexer …`: how far each hospital's rows are, and what administrators let the indexer do."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer
from emr_network.enrolment import ADMIN
from emr_network.home import Home

from emr_deploy.callers import Callers
from emr_deploy.output import AsJson, Output
from emr_deploy.status import status_of
from emr_deploy.system import System, UsageError

indexer = typer.Typer(help="From blocks to rows.", no_args_is_help=True)
PROCESSES = ("relay", "projector", "indexer")
POLL_SECONDS = 0.3

Org = Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the job's id and leave.")]


def register(app: typer.Typer) -> None:
    app.add_typer(indexer, name="indexer")


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


@indexer.command()
def replay(
    org: Org,
    event_id: Annotated[str | None, typer.Argument(help="A dead letter; without it, all that parked an EMR.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Try again what could not be projected, and in order what waits behind it."""
    out = Output(as_json=as_json)
    jobs = asyncio.run(_Jobs(org, out).replay(event_id, wait=not no_wait))
    out.rows([{"job": one["jobId"], "state": one.get("state"), "result": one.get("result")} for one in jobs])
    if any(one.get("state") == "failed" or (one.get("result") or {}).get("parked") for one in jobs):
        raise typer.Exit(1)


@indexer.command()
def rebuild(org: Org, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Make a hospital's rows anew from the ledger's first block, while the old ones serve."""
    out = Output(as_json=as_json)
    _show(out, asyncio.run(_Jobs(org, out).ask("/rebuilds", {}, wait=not no_wait)))


@indexer.command()
def verify(
    org: Org,
    erased: Annotated[bool, typer.Option("--erased", help="What erasures have left, instead of rows.")] = False,
    emr: Annotated[str | None, typer.Option(help="With --erased: this EMR alone.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Compare every row with what the ledger says, and name what differs."""
    if emr and not erased:
        raise UsageError("--emr goes with --erased: rows are compared all together")
    out = Output(as_json=as_json)
    body = {"erased": erased, **({"emrId": emr} if emr else {})}
    _show(out, asyncio.run(_Jobs(org, out).ask("/verifications", body, wait=not no_wait)))


def _show(out: Output, job: dict[str, Any]) -> None:
    """Exit 1 if the job failed or found something."""
    result = job.get("result") or {}
    lines = [f"{name}: {value}" for name, value in result.items() if not isinstance(value, list)]
    listed = [str(one) for value in result.values() if isinstance(value, list) for one in value]
    out.result(job, f"job {job['jobId']} {job.get('state', 'accepted')} {job.get('code') or ''}", *lines, *listed)
    if job.get("state") == "failed" or result.get("found"):
        raise typer.Exit(1)


class _Jobs:
    """Jobs of a hospital's indexer, asked for in the name of its administrator."""

    def __init__(self, org: str, out: Output) -> None:
        self._system = System(Home.from_environment())
        self._organization = self._system.topology.organization(org).name
        self._out = out

    async def replay(self, event_id: str | None, *, wait: bool) -> list[dict[str, Any]]:
        async with Callers(self._system.home, self._system.ports) as callers:
            chosen = [event_id] if event_id is not None else await self._parking(callers)
            return [
                await self._run(callers, f"/dead-letters/{quote(one, safe='/')}/replay", {}, wait=wait)
                for one in chosen
            ]

    async def ask(self, path: str, body: dict[str, Any], *, wait: bool) -> dict[str, Any]:
        async with Callers(self._system.home, self._system.ports) as callers:
            return await self._run(callers, path, body, wait=wait)

    async def _parking(self, callers: Callers) -> list[str]:
        found: list[str] = []
        params: dict[str, Any] = {"resolved": "false", "limit": 200}
        while True:
            page = await self._get(callers, "/dead-letters", params)
            found += [one["eventId"] for one in page["deadLetters"] if one["parked"]]
            if page["next"] is None:
                return found
            params["after"] = page["next"]

    async def _get(self, callers: Callers, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await callers.call(self._organization, ADMIN, "indexer", "GET", path, params=params)
        return answer.required()

    async def _run(self, callers: Callers, path: str, body: dict[str, Any], *, wait: bool) -> dict[str, Any]:
        """The job that a call made, once it has ended if ``wait``."""
        made = (await callers.call(self._organization, ADMIN, "indexer", "POST", path, body)).required()
        told = None
        while wait:
            job = await self._get(callers, f"/jobs/{made['jobId']}")
            if job["state"] in ("done", "failed"):
                return job
            if job["progress"] != told:
                told = job["progress"]
                self._out.say(f"{job['kind']}: {told}")
            await asyncio.sleep(POLL_SECONDS)
        return made

"""`emr backup DIR`, `emr restore DIR`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from emr_network.home import Home

from emr_deploy import backup as backups
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System

Folder = Annotated[Path, typer.Argument(metavar="DIR")]


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)


def backup(folder: Folder, as_json: AsJson = False) -> None:
    """Write everything that cannot be had again into a new folder: keys, certificates, schema hospital, devnet."""
    out = Output(as_json=as_json)
    manifest = asyncio.run(backups.back_up(System(Home.from_environment(), out.say), folder.absolute()))
    said = f"{len(manifest.files)} files in {folder}. It holds the hospitals' keys: keep it as you keep them"
    out.result({"files": len(manifest.files), "createdAt": manifest.created_at}, said)


def restore(
    folder: Folder,
    free_ports: Annotated[bool, typer.Option(help="Take free ports instead of the backup's.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a system out of a backup, in an EMR_HOME that holds none; emr up then starts it."""
    out = Output(as_json=as_json)
    system = System(Home.from_environment(), out.say)
    manifest = asyncio.run(backups.restore(system, folder.absolute(), free_ports=free_ports))
    said = f"restored what was backed up at {manifest.created_at}; emr up starts it, emr indexer verify proves it"
    out.result({"files": len(manifest.files), "createdAt": manifest.created_at}, said)

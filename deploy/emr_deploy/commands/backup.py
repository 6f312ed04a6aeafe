"""`emr backup DIR`, `emr restore DIR`, `emr backup-key FILE`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from emr_network.home import Home

from emr_deploy import backup as backups
from emr_deploy import sealed_backup as sealed
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

Folder = Annotated[Path, typer.Argument(metavar="DIR")]


def register(app: typer.Typer) -> None:
    for command in (backup, restore):
        app.command()(command)
    app.command("backup-key")(backup_key)


def backup_key(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is the public one.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make the key that opens backups. Keep FILE away from the system: emr backup needs FILE.pub alone."""
    public = sealed.make_key(file.absolute())
    Output(as_json=as_json).result(
        {"public": str(public)}, f"keep {file} where backups are restored; {public} seals them"
    )


def backup(
    folder: Folder,
    recipient: Annotated[Path | None, typer.Option(metavar="FILE.pub", help="For the holder of this key.")] = None,
    in_the_clear: Annotated[bool, typer.Option(help="Unsealed: the medium itself must be encrypted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write everything that cannot be had again into a new folder: keys, certificates, schema hospital, devnet."""
    out = Output(as_json=as_json)
    if (recipient is None) is not in_the_clear:
        raise UsageError("say for whom the backup is: --recipient FILE.pub (emr backup-key), or --in-the-clear")
    system = System(Home.from_environment(), out.say)
    if recipient is None:
        manifest = asyncio.run(backups.back_up(system, folder.absolute()))
        said = f"{len(manifest.files)} files in {folder}. It holds the hospitals' keys: keep it as you keep them"
    else:
        manifest = asyncio.run(sealed.back_up_sealed(system, folder.absolute(), recipient))
        said = f"{len(manifest.files)} files in {folder}, sealed for the holder of {recipient.stem}"
    out.result({"files": len(manifest.files), "createdAt": manifest.created_at}, said)


def restore(
    folder: Folder,
    identity: Annotated[Path | None, typer.Option(metavar="FILE", help="The key that opens a sealed backup.")] = None,
    free_ports: Annotated[bool, typer.Option(help="Take free ports instead of the backup's.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a system out of a backup, in an EMR_HOME that holds none; emr up then starts it."""
    out = Output(as_json=as_json)
    if sealed.is_sealed(folder) and identity is None:
        raise UsageError("a sealed backup needs --identity FILE")
    system = System(Home.from_environment(), out.say)
    if identity is None:
        restoring = backups.restore(system, folder.absolute(), free_ports=free_ports)
    else:
        restoring = sealed.restore_sealed(system, folder.absolute(), identity, free_ports=free_ports)
    manifest = asyncio.run(restoring)
    said = f"restored what was backed up at {manifest.created_at}; emr up starts it, emr indexer verify proves it"
    out.result({"files": len(manifest.files), "createdAt": manifest.created_at}, said)

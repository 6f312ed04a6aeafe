"""`emr config check`: would every process start with what it is told?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from emr_network.home import Home

from emr_deploy.output import AsJson, Output
from emr_deploy.process import Process
from emr_deploy.system import System

if TYPE_CHECKING:
    from emr_common.settings import Settings

config = typer.Typer(help="The settings of the processes.", no_args_is_help=True)
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def register(app: typer.Typer) -> None:
    app.add_typer(config, name="config")


@config.callback()
def _group() -> None:
    """A group with one command would otherwise be that command."""


@config.command()
def check(as_json: AsJson = False) -> None:
    """Check settings, the files they name, and that no secret can be read by others."""
    system = System(Home.from_environment())
    faults = [fault for process in system.processes for fault in _faults_of(process)]
    faults += list(_open_secrets(system.home))
    Output(as_json=as_json).result({"faults": faults}, *(faults or ["every process would start"]))
    if faults:
        raise typer.Exit(1)


def _faults_of(process: Process) -> Iterator[str]:
    from emr_common.settings import SettingsInvalid, load

    told = process.program.environment
    if "EMR_ORG_MSP_ID" not in told:
        return
    try:
        with _environment(told):
            load(_settings_class(process.service), told)
    except SettingsInvalid as error:
        yield f"{process.name}: {error}"
    for name, value in told.items():
        if name.endswith(("_FILE", "_DIR")) and not Path(value).exists():
            yield f"{process.name}: {name} names nothing that exists"


def _settings_class(service: str) -> type[Settings]:
    module, name = SETTINGS[service]
    found: type[Settings] = getattr(import_module(module), name)
    return found


SETTINGS = {
    "registration": ("emr_registration.settings", "RegistrationSettings"),
    "records": ("emr_records.settings", "RecordsSettings"),
    "consent": ("emr_consent.settings", "ConsentSettings"),
    "sharer": ("emr_consent.settings", "SharerSettings"),
    "relay": ("emr_indexer.relay.settings", "RelaySettings"),
    "projector": ("emr_indexer.projector.settings", "ProjectorSettings"),
    "indexer": ("emr_indexer.settings", "IndexerSettings"),
}


@contextmanager
def _environment(told: Mapping[str, str]) -> Iterator[None]:
    """This process's environment is, for a moment, the one of a service."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("EMR_")]:
        del os.environ[name]
    os.environ.update(told)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _open_secrets(home: Home) -> Iterator[str]:
    for path in sorted(home.secrets.rglob("*")):
        if path.is_file() and "signcerts" not in path.parts and path.stat().st_mode & OPEN_TO_OTHERS:
            if path.parent.name in {"cacerts", "tlscacerts"} or path.name == "config.yaml":
                continue
            yield f"{path} can be read by others"

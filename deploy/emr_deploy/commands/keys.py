"""`emr keys`: rotating the keysets that seal a hospital's secrets at rest, while its services run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer
from emr_common import keysets
from emr_common.resealing import BY_KEYSET, Resealing
from emr_common.sealing import WrappingKey
from emr_network.home import Home
from emr_readmodel import engine as engines

from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

keys_app = typer.Typer(help="The keys that seal a hospital's secrets at rest.", no_args_is_help=True)

Keyset = Annotated[
    Literal["wallet", "wrapping"],
    typer.Argument(help="wallet: seals people's private keys and webhooks' secrets. wrapping: wraps the EMRs' keys."),
]
Org = Annotated[str, typer.Option(help="The hospital, by its short name or MSP id.")]


def register(app: typer.Typer) -> None:
    app.add_typer(keys_app, name="keys")


@keys_app.command()
def rotate(keyset: Keyset, org: Org, as_json: AsJson = False) -> None:
    """Add a key, seal by it from now on, and seal anew what earlier keys have sealed. Broken off, it may be repeated.

    The earlier keys still open, until `emr keys retire`.
    """
    system = System(Home.from_environment())
    name = system.topology.organization(org).name
    path = system.home.secret(name, f"{keyset}.keyset")
    try:
        system.home.write_secret(path, keysets.added(path.read_text()))
    except keysets.RotationRefused:
        Output(as_json=as_json).say("going on with a rotation that broke off")
    system.home.write_secret(path, keysets.promoted(path.read_text()))
    resealed = asyncio.run(_reseal(system, name, keyset))
    count = len(keysets.key_ids(path.read_text()))
    answer = {"keyset": keyset, "organization": name, "resealed": resealed, "keys": count}
    Output(as_json=as_json).result(answer, f"{resealed} secrets sealed anew; {count} keys open")


@keys_app.command()
def retire(keyset: Keyset, org: Org, as_json: AsJson = False) -> None:
    """Drop the earlier keys, once nothing in the database is sealed by them. Backups from before stay sealed then."""
    system = System(Home.from_environment())
    name = system.topology.organization(org).name
    path = system.home.secret(name, f"{keyset}.keyset")
    if left := asyncio.run(_remaining(system, name, keyset)):
        raise UsageError(f"{left} secrets are sealed by earlier keys: emr keys rotate {keyset} --org {name}")
    try:
        system.home.write_secret(path, keysets.retired(path.read_text()))
    except keysets.RotationRefused as error:
        raise UsageError(str(error)) from error
    Output(as_json=as_json).result({"keyset": keyset, "organization": name, "keys": 1}, "one key is left")


async def _reseal(system: System, organization: str, keyset: str) -> int:
    """Until nothing is left: a service may still have been sealing by the earlier key when the new one came."""
    path = system.home.secret(organization, f"{keyset}.keyset")
    engine = engines.create(system.home.secret(organization, "database-url").read_text(), 2)
    try:
        done, key = 0, WrappingKey.from_file(path)
        for sealed in BY_KEYSET[keyset]:
            resealing = Resealing(engine, key, sealed)
            while await resealing.remaining():
                done += await resealing.run()
        return done
    finally:
        await engine.dispose()


async def _remaining(system: System, organization: str, keyset: str) -> int:
    path = system.home.secret(organization, f"{keyset}.keyset")
    engine = engines.create(system.home.secret(organization, "database-url").read_text(), 1)
    try:
        key = WrappingKey.from_file(path)
        return sum([await Resealing(engine, key, sealed).remaining() for sealed in BY_KEYSET[keyset]])
    finally:
        await engine.dispose()

"""`emr verify …`: what can be proven to somebody who trusts none of the hospitals' servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from emr_common.receipts import ProvenDisclosure, check
from emr_network.home import Home
from emr_network.material import peer_organization
from hlf.evidence import genesis_hash
from hlf.gateway import Endpoint, Gateway
from hlf.identity import SigningIdentity

from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

verify = typer.Typer(help="Check a disclosure's receipt off-line.", no_args_is_help=True)

Genesis = Annotated[str, typer.Option(help="Hash of the channel's first block, in hex, from somebody you trust.")]
ReceiptFile = Annotated[Path, typer.Argument(help="From GET /v1/disclosures/{receipt}/proof.", dir_okay=False)]


def register(app: typer.Typer) -> None:
    app.add_typer(verify, name="verify")


@verify.command()
def channel(
    org: Annotated[str, typer.Option(help="The hospital whose peer is asked.")],
    as_json: AsJson = False,
) -> None:
    """Print by what the channel is known for ever: the hash of its first block."""
    system = System(Home.from_environment())
    found = asyncio.run(_genesis_hash(system, org)).hex()
    Output(as_json=as_json).result({"channel": system.topology.channel, "genesis": found}, found)


@verify.command()
def receipt(
    file: ReceiptFile,
    genesis: Genesis,
    chaincode: Annotated[str, typer.Option(help="The contract's name on the channel.")] = "emr",
    as_json: AsJson = False,
) -> None:
    """Check a receipt by signatures and hashes alone: who read which version of whose EMR, when and why."""
    try:
        trusted = bytes.fromhex(genesis)
        document = file.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read" if isinstance(error, OSError) else "--genesis: not hex") from error
    proven = check(document, trusted, chaincode)
    Output(as_json=as_json).result(_facts(proven), *_told(proven))


async def _genesis_hash(system: System, org: str) -> bytes:
    organization = system.topology.organization(org)
    folder = peer_organization(system.home, organization)
    endpoint = Endpoint(system.ports.address(f"peer-{organization.name}"), folder.tls_ca_certificate.read_bytes())
    service = SigningIdentity.from_msp_dir(folder.user("service"), organization.msp_id)
    async with Gateway([endpoint]) as gateway:
        return await genesis_hash(gateway, service, system.topology.channel)


def _facts(proven: ProvenDisclosure) -> dict[str, Any]:
    return {
        "receipt": proven.receipt,
        "emrId": proven.emr_id,
        "patientId": proven.patient_id,
        "ownerMsp": proven.owner_msp,
        **proven.disclosure.to_wire(),
        "transactionId": proven.transaction_id,
        "block": proven.block,
        "endorsedBy": list(proven.endorsers),
    }


def _told(proven: ProvenDisclosure) -> list[str]:
    read = proven.disclosure
    return [
        f"proven: {read.reader} of {read.recipient_msp} was given version {read.version} of EMR {proven.emr_id}",
        f"        of {proven.owner_msp}, for purpose {read.purpose.value}, on {read.at:%Y-%m-%d at %H:%M:%S} UTC",
        f"        sharing {read.sharing}, transaction {proven.transaction_id}, block {proven.block}",
        f"        endorsed by peers of {', '.join(proven.endorsers)}, ordered and signed by the channel's orderers",
    ]

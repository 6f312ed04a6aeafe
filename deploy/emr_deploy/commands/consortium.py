"""`emr network export-org`, `propose-org`, `sign`, `submit`: changes as files, each hospital keeping its own keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from emr_network.administration.files import FileInvalid, OrganizationFile, Proposal, SignatureFile, require_valid
from emr_network.home import Home
from emr_network.material import peer_organization
from hlf.admin import edits, signatures, update, validation
from hlf.admin.channel import PeerOrganization
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.msp import MspDefinition
from hlf.admin.verification import verified_signer
from hlf.identity import SigningIdentity

from emr_deploy.administration.site import administrator, consortium
from emr_deploy.output import AsJson, Output
from emr_deploy.system import System, UsageError

Org = Annotated[str, typer.Option(help="The hospital in whose name this is done, by its short name or MSP id.")]
Out = Annotated[Path, typer.Option("--out", help="The file to write.")]
MspDir = Annotated[Path | None, typer.Option(help="An MSP folder, where it is not one of EMR_HOME.")]


def register(network: typer.Typer) -> None:
    network.command("export-org")(export_org)
    network.command("propose-org")(propose_org)
    for command in (sign, submit):
        network.command()(command)


def export_org(
    org: Org,
    out: Out,
    msp_dir: MspDir = None,
    anchor: Annotated[list[str] | None, typer.Option(help="host:port of a peer that others meet first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write what the others need to know of a hospital: its MSP and anchor peers. No secret is in it."""
    if msp_dir is None:
        system = System(Home.from_environment())
        hospital = system.topology.organization(org)
        folder, msp_id = peer_organization(system.home, hospital).msp, hospital.msp_id
        anchors = anchor or [one.address for one in administrator(system.home, hospital, system.ports).peers]
    else:
        folder, msp_id, anchors = msp_dir, org, anchor or []
    try:
        organization = PeerOrganization(MspDefinition.from_dir(folder, msp_id), tuple(anchors))
        OrganizationFile(organization).write(out)
        OrganizationFile.read(out)
    except (OSError, FileInvalid) as error:
        out.unlink(missing_ok=True)
        raise UsageError(str(error)) from error
    Output(as_json=as_json).result({"organization": msp_id, "file": str(out)}, f"{msp_id} is in {out}")


def propose_org(
    out: Out,
    file: Annotated[Path | None, typer.Argument(help="A hospital's file, to add it.")] = None,
    remove: Annotated[str, typer.Option(help="The MSP id of a member, to take it out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Compute the configuration update that adds or removes a hospital, for the others to sign."""
    if (file is None) == (not remove):
        raise UsageError("name either a hospital's file or --remove and an MSP id")
    organization = None if file is None else OrganizationFile.read(file).organization
    msp_id = remove if organization is None else organization.msp.msp_id
    what = f"{'remove' if organization is None else 'add'} {msp_id}"
    proposal, signers = asyncio.run(_proposed(_system(), what, organization, msp_id))
    proposal.write(out)
    told = f"{out}: {what}; to be signed by enough of {', '.join(signers)}"
    Output(as_json=as_json).result({"proposal": str(out), "what": what, "signers": signers}, told)


def sign(
    file: Annotated[Path, typer.Argument(help="A proposal.")],
    org: Org,
    out: Out,
    msp_dir: MspDir = None,
    as_json: AsJson = False,
) -> None:
    """Sign a proposal as a hospital's administrator. Nobody else sees the key."""
    proposal = Proposal.read(file)
    identity = _administrator(org, msp_dir)
    require_valid([identity.identity.certificate], f"the certificate of {identity.msp_id}'s administrator")
    SignatureFile(identity.msp_id, signatures.sign(proposal.update, identity)).write(out)
    told = f"{identity.msp_id} signs: {proposal.what} on {proposal.channel}; the signature is in {out}"
    Output(as_json=as_json).result({"signer": identity.msp_id, "what": proposal.what, "file": str(out)}, told)


def submit(
    file: Annotated[Path, typer.Argument(help="A proposal.")],
    signed: Annotated[list[Path], typer.Argument(help="Signatures of it.")],
    org: Org,
    msp_dir: MspDir = None,
    as_json: AsJson = False,
) -> None:
    """Hand in a proposal with its signatures, once there are enough."""
    proposal = Proposal.read(file)
    made = [SignatureFile.read(one).signature for one in signed]
    asyncio.run(_submit(_system(), proposal, made, _administrator(org, msp_dir)))
    Output(as_json=as_json).result({"submitted": proposal.what}, f"in force: {proposal.what}")


async def _proposed(
    system: System, what: str, organization: PeerOrganization | None, msp_id: str
) -> tuple[Proposal, list[str]]:
    members = consortium(system.home, system.topology, system.ports)
    config = await members.configuration()
    if organization is None and msp_id not in edits.members(config):
        raise ConfigurationInvalid([f"the channel has no organization {msp_id}"])
    if organization is not None and msp_id in edits.members(config):
        raise ConfigurationInvalid([f"the channel has an organization {msp_id} already"])
    wanted = (
        edits.without_organization(config, msp_id)
        if organization is None
        else edits.with_organization(config, organization)
    )
    validation.check(wanted)
    message = update.compute(system.topology.channel, config, wanted)
    proposal = Proposal(system.topology.channel, what, message.SerializeToString(deterministic=True))
    return proposal, list(edits.members(config))


async def _submit(system: System, proposal: Proposal, made: list[bytes], sender: SigningIdentity) -> None:
    from fabric_protos.common import configtx_pb2

    members = consortium(system.home, system.topology, system.ports)
    config = await members.configuration()
    signers = [verified_signer(config, proposal.update, one) for one in made]
    signatures.require(config, configtx_pb2.ConfigUpdate.FromString(proposal.update), signers)
    await members.hand_in(proposal.update, made, sender)


def _administrator(org: str, msp_dir: Path | None) -> SigningIdentity:
    """Raises UsageError."""
    try:
        if msp_dir is not None:
            return SigningIdentity.from_msp_dir(msp_dir, org)
        system = _system()
        return administrator(system.home, system.topology.organization(org), system.ports).identity
    except (OSError, ValueError) as error:
        raise UsageError(f"{org}: no administrator's certificate and key here") from error


def _system() -> System:
    return System(Home.from_environment())

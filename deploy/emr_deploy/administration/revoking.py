"""Certificates that count no more: revoked at the hospital's CA, then told to the whole channel.

Only a revocation list in the channel's configuration makes the others' peers refuse a certificate. Calls that concern
no channel are judged by a peer's own MSP folder, which it reads when it starts: the list goes there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emr_network.administration.consortium import Say
from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import Ports
from emr_network.topology import Organization, Topology
from hlf.admin import edits
from hlf.identity import SigningIdentity

from emr_deploy.administration.site import consortium


@dataclass(frozen=True)
class Revoking:
    home: Home
    topology: Topology
    organization: Organization
    ports: Ports
    say: Say

    async def revoke(self, enrolment_id: str) -> bool:
        """Revokes all certificates of an identity, for everybody. False if the channel knew it. Raises CaError,
        HlfError."""
        enrolment = Enrolment(self.home, self.organization, self.ports)
        registrar = SigningIdentity.from_msp_dir(enrolment.registrar_folder, self.organization.msp_id)
        async with enrolment.client() as ca:
            revoked = await ca.revoke(registrar, id=enrolment_id)
        self.say(f"made   {len(revoked.certificates)} certificates of {enrolment_id} revoked at the CA")
        return await self.publish()

    async def publish(self) -> bool:
        """Tells the channel and the hospital's own nodes what its CA has revoked. False if they knew."""
        enrolment = Enrolment(self.home, self.organization, self.ports)
        registrar = SigningIdentity.from_msp_dir(enrolment.registrar_folder, self.organization.msp_id)
        async with enrolment.client() as ca:
            revocations = await ca.gencrl(registrar)
        for folder in self._msp_folders():
            (folder / "crls").mkdir(exist_ok=True)
            partial = folder / ".revoked.partial"
            partial.write_bytes(revocations)
            partial.replace(folder / "crls" / "revoked.pem")
        members = consortium(self.home, self.topology, self.ports, self.say)
        return await members.change(
            f"the revocation list of {self.organization.msp_id} in the channel's configuration",
            lambda config: edits.with_revocations(config, self.organization.msp_id, [revocations]),
        )

    def _msp_folders(self) -> list[Path]:
        folder = peer_organization(self.home, self.organization)
        peers = range(1, self.organization.peers + 1)
        return [folder.msp, *(folder.node(self.organization.peer_host(number)) / "msp" for number in peers)]

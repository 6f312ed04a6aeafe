"""Steps of the two workflows, called at the contract with valid certificates: tests begin where a step left off."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from datetime import datetime

from emr_model.ledger import answers
from emr_model.ledger.codec import format_timestamp
from emr_model.ledger.functions import Function, Role
from hlf.identity import SigningIdentity
from support.contract_network import A, B, ContractNetwork, key_of, new_id, sha256

SEALING_KEY = "k1"
COMMITMENT = "c" * 64


def profile(name: str, key_ids: tuple[str, ...] = (SEALING_KEY,)) -> str:
    keyset = base64.b64encode(b"a public keyset").decode()
    return json.dumps({"name": name, "sealingKeys": [{"id": key_id, "keyset": keyset} for key_id in key_ids]})


async def register_hospitals(network: ContractNetwork) -> None:
    for msp_id in network.hospitals:
        admin = network.staff(msp_id, Role.ADMIN)
        await network.submit(admin, Function.REGISTER_ORGANIZATION, profile(msp_id))


@dataclass
class Story:
    """One patient of hospital A. Contents are random bytes: the contract never sees anything but sealed ones."""

    network: ContractNetwork
    patient: SigningIdentity
    patient_id: str
    emr_id: str
    demographics: bytes
    notes: list[bytes] = field(default_factory=list)
    note_ids: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, network: ContractNetwork) -> Story:
        patient_id, demographics = new_id(), os.urandom(300)
        patient = network.hospitals[A].person(Role.PATIENT, patient_id)
        story = cls(network, patient, patient_id, new_id(), demographics)
        await network.submit(
            story.staff(Role.HEALTHCENTER),
            Function.CREATE_EMR,
            story.emr_id,
            patient_id,
            key_of(patient),
            COMMITMENT,
            sha256(demographics),
            transient={"demographics": demographics},
        )
        return story

    def staff(self, role: Role, msp_id: str = A) -> SigningIdentity:
        return self.network.staff(msp_id, role)

    async def add_note(self, *, is_visit: bool = True, size: int = 500) -> int:
        sealed, note_id = os.urandom(size), new_id()
        answer, _ = await self.network.submit(
            self.staff(Role.PHYSICIAN),
            Function.ADD_EMR_NOTE,
            *self.note_arguments(sealed, note_id=note_id, is_visit=is_visit),
            transient={"note": sealed},
        )
        self.notes.append(sealed)
        self.note_ids.append(note_id)
        return answers.NoteAdded.from_json(answer).version

    def note_arguments(
        self, sealed: bytes, *, note_id: str, version: int | None = None, is_visit: bool = True
    ) -> tuple[str, ...]:
        expected = len(self.notes) if version is None else version
        flag = "true" if is_visit else "false"
        return self.emr_id, str(expected), note_id, flag, COMMITMENT, sha256(sealed)

    async def request(self) -> None:
        await self.network.submit(
            self.staff(Role.PHYSICIAN, B), Function.REQUEST_EMR_ACCESS, A, self.patient_id, "TREAT"
        )

    async def authorize(self, version: int | None = None, key_id: str = SEALING_KEY) -> None:
        await self.network.submit(
            self.staff(Role.HEALTHCENTER),
            Function.AUTHORIZE_EMR_READING,
            self.emr_id,
            B,
            str(len(self.notes) if version is None else version),
            key_id,
        )

    async def approve(self, version: int | None = None, expires_at: datetime | None = None) -> None:
        arguments = [B, str(len(self.notes) if version is None else version)]
        if expires_at is not None:
            arguments.append(format_timestamp(expires_at))
        await self.network.submit(self.patient, Function.APPROVE_EMR_SHARING, *arguments)

    async def share(self, version: int | None = None) -> bytes:
        sealed = os.urandom(2000)
        await self.network.submit(
            self.staff(Role.SERVICE),
            Function.SHARE_EMR_SNAPSHOT,
            self.emr_id,
            B,
            str(len(self.notes) if version is None else version),
            sha256(sealed),
            transient={"snapshot": sealed},
        )
        return sealed

    async def share_all(self, expires_at: datetime | None = None) -> bytes:
        """Approved by both and shared at the current version."""
        await self.authorize()
        await self.approve(expires_at=expires_at)
        return await self.share()

    async def disclose(self, reader: SigningIdentity | None = None) -> answers.Receipt:
        answer, transaction_id = await self.network.submit(
            reader or self.staff(Role.PHYSICIAN, B), Function.GET_SHARED_EMR, A, self.patient_id, "TREAT"
        )
        receipt = answers.Receipt.from_json(answer)
        assert receipt.receipt == f"{self.emr_id}.{transaction_id}"
        return receipt

    async def read_shared(self, receipt: str, reader: SigningIdentity | None = None) -> answers.SharedEmr:
        person = reader or self.staff(Role.PHYSICIAN, B)
        return answers.SharedEmr.from_json(await self.network.evaluate(person, Function.READ_SHARED_EMR, receipt))

    async def remove(self) -> None:
        await self.network.submit(self.patient, Function.REMOVE_EMR_SHARING, B)

    async def end(self, why: str = "withdrawn") -> None:
        await self.network.submit(self.staff(Role.HEALTHCENTER), Function.END_EMR_READING, self.emr_id, B, why)

    async def sharing(self) -> answers.SharingView:
        service = self.staff(Role.SERVICE)
        answer = await self.network.evaluate(service, Function.GET_SHARING, self.emr_id, B)
        return answers.SharingView.from_json(answer)

    async def own_emr(self, *arguments: str) -> answers.EmrView:
        return answers.EmrView.from_json(await self.network.evaluate(self.patient, Function.GET_OWN_EMR, *arguments))

    async def erase(self) -> None:
        await self.network.submit(self.patient, Function.REQUEST_ERASURE)
        await self.network.submit(self.staff(Role.HEALTHCENTER), Function.ERASE_EMR, self.emr_id)

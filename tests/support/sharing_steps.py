"""One patient of hospital A whose record is managed and shared with hospital B, step by step over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
from emr_deploy.callers import Answer
from support.stack import Actor, Stack

PURPOSE = "TREAT"
NOBODY_MEANS = 1000


@dataclass(frozen=True)
class Cast:
    """The staff of both hospitals."""

    healthcenter: Actor
    physician: Actor
    other_healthcenter: Actor
    other_physician: Actor


async def enrol_cast(stack: Stack) -> Cast:
    return Cast(
        await stack.staff("a", "healthcenter"),
        await stack.staff("a", "physician"),
        await stack.staff("b", "healthcenter"),
        await stack.staff("b", "physician"),
    )


@dataclass
class Steps:
    """What the people do. `version` is the number of notes that went in through `note`."""

    stack: Stack
    cast: Cast
    patient: Actor
    version: int = 0
    texts: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, stack: Stack, cast: Cast, *, notes: int = 1, **patient: Any) -> Steps:
        """A new patient with some typed notes."""
        resource = stack.patient_resource(**patient)
        steps = cls(stack, cast, await stack.patient(cast.healthcenter, resource))
        for number in range(notes):
            await steps.note(f"Visit {number + 1}: nothing unusual.")
        return steps

    @property
    def other_msp(self) -> str:
        return self.stack.msp_id("b")

    @property
    def wanted(self) -> dict[str, str]:
        """What the patient gives to the other hospital, and what for."""
        return {"ownerMsp": self.stack.msp_id("a"), "patientId": self.patient.patient_id, "purpose": PURPOSE}

    async def post_note(self, text: str, **options: Any) -> Answer:
        path = f"/emrs/{self.patient.emr_id}/notes"
        return await self.stack.call(self.cast.physician, "records", "POST", path, {"text": text}, **options)

    async def note(self, text: str) -> dict[str, Any]:
        answer = await self.post_note(text)
        assert answer.status == 201, answer.body
        self.version += 1
        self.texts.append(text)
        assert answer.body["version"] == self.version
        return answer.body

    async def read(self) -> dict[str, Any]:
        """The EMR's own physician reads it."""
        path = f"/emrs/{self.patient.emr_id}"
        return (await self.stack.call(self.cast.physician, "records", "GET", path)).required()

    async def request(self) -> Answer:
        return await self.stack.call(self.cast.other_physician, "consent", "POST", "/access-requests", self.wanted)

    async def approve_as_owner(self, version: int | None = None) -> Answer:
        path = f"/emrs/{self.patient.emr_id}/sharings/{self.other_msp}/owner-approval"
        body = {"version": self.version if version is None else version}
        return await self.stack.call(self.cast.healthcenter, "consent", "PUT", path, body)

    async def approve_as_patient(self, version: int | None = None) -> Answer:
        path = f"/me/sharings/{self.other_msp}/approval"
        body = {"version": self.version if version is None else version}
        return await self.stack.call(self.patient, "consent", "PUT", path, body)

    async def remove(self) -> Answer:
        return await self.stack.call(self.patient, "consent", "DELETE", f"/me/sharings/{self.other_msp}")

    async def sharing(self) -> dict[str, Any]:
        """The patient's sharing with B as the ledger has it now."""
        answer = (await self.stack.call(self.patient, "consent", "GET", "/me/sharings")).required()
        (sharing,) = [one for one in answer["sharings"] if one["recipientMsp"] == self.other_msp]
        assert isinstance(sharing, dict)
        return sharing

    async def until_shared(self) -> None:
        """The sharer answers to approvals by itself."""

        async def is_shared() -> bool:
            return bool((await self.sharing())["readableVersion"] == self.version)

        await self.stack.until(is_shared, f"version {self.version} is shared")

    async def share(self) -> None:
        """Both approve the current version, and the snapshot is there."""
        for answer in (await self.approve_as_owner(), await self.approve_as_patient()):
            answer.required()
        await self.until_shared()

    async def disclose(self) -> Answer:
        """B's physician asks to read."""
        return await self.stack.call(self.cast.other_physician, "records", "POST", "/disclosures", self.wanted)

    async def receipt(self) -> str:
        return str((await self.disclose()).required()["receipt"])

    async def shared_answer(self, receipt: str) -> httpx.Response:
        """What B's physician is answered for a receipt, byte for byte."""
        reader = self.cast.other_physician
        token = await self.stack.token(reader.subject, reader.organization)
        url = f"{self.stack.url('records', reader.organization)}/v1/disclosures/{receipt}/emr"
        async with httpx.AsyncClient(timeout=40, trust_env=False) as http:
            return await http.get(url, headers={"Authorization": f"Bearer {token}"})

    async def read_shared(self) -> dict[str, Any]:
        """Disclosed and read."""
        answer = await self.shared_answer(await self.receipt())
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

"""The second workflow: another hospital asks for the record; nothing is shown before owner and patient agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emr_deploy.story.managing import ManagedEmr, add_note
from emr_deploy.story.scene import Scene, require
from emr_deploy.story.telling import Actor

PURPOSE = "TREAT"
NOBODY_MEANS = 1000  # versions ahead: more notes than any patient of the story has
NOT_GRANTED = "ACCESS_NOT_GRANTED"
UNKNOWN_VERSION = "APPROVAL_VERSION_UNKNOWN"


@dataclass(frozen=True)
class Sharing:
    """One EMR on its way to the other hospital. `wanted` is what that hospital asks for."""

    scene: Scene
    emr: ManagedEmr
    wanted: dict[str, Any]

    async def play(self) -> None:
        version = self.emr.version
        await self._refused("tries to read before anyone approved")
        what, asking = "requests access", self.scene.cast.other_physician
        await self.scene.step(asking, what, "consent", "POST", "/access-requests", self.wanted, expected=201)
        await self._owner_approves(version)
        await self._patient_approves(version)
        first = await self._read("reads the snapshot that was approved", version)
        await self._later_note(version, first)
        await self._end()

    async def _owner_approves(self, version: int) -> None:
        unknown = version + NOBODY_MEANS
        await self._approve_as_owner(unknown, "approves a version that nobody means", UNKNOWN_VERSION)
        await self._approve_as_owner(version, f"approves version {version}")
        await self._refused("tries to read after only one approval")

    async def _patient_approves(self, version: int) -> None:
        patient, stranger = self.scene.cast.patient, self.scene.cast.stranger
        own = len((await self.scene.quietly(stranger, "records", "/me/emr"))["entry"]) - 1
        await self._approve_as_patient(stranger, own, "approves, which is about another record")
        await self._refused("tries to read after the other patient's approval")
        unknown = version + NOBODY_MEANS
        await self._approve_as_patient(patient, unknown, "approves a version that nobody means", UNKNOWN_VERSION)
        await self._approve_as_patient(patient, version, f"approves version {version}")
        await self._until_shared(version)

    async def _later_note(self, version: int, first: dict[str, Any]) -> None:
        """A later note stays unseen until both have approved again."""
        note = {"text": "Laboratory results have come in and are unremarkable."}
        later = await add_note(self.scene, "adds a note that nobody approved for B", self.emr.emr_id, note)
        again = await self._read("reads again: the new note is not there", version)
        require(again["notes"] == first["notes"], "the snapshot changed without approvals")
        await self._approve_as_owner(later, f"approves version {later}")
        same = await self._read("reads once more, one approval being missing", version)
        require(same["notes"] == first["notes"], "one approval was enough")
        await self._approve_as_patient(self.scene.cast.patient, later, f"approves version {later}")
        await self._until_shared(later)
        await self._read("reads the new snapshot", later)

    async def _end(self) -> None:
        patient, path = self.scene.cast.patient, f"/me/sharings/{self.scene.other.msp_id}"
        await self.scene.step(patient, "removes the sharing", "consent", "DELETE", path)
        await self._refused("tries to read after the sharing was removed")
        seen = await self.scene.step(patient, "sees who read the record", "records", "GET", "/me/disclosures")
        self.scene.teller.remark(f"{len(seen['disclosures'])} disclosures, each with a transaction on the ledger")

    async def _approve_as_owner(self, version: int, what: str, expected: int | str = 200) -> None:
        path = f"/emrs/{self.emr.emr_id}/sharings/{self.scene.other.msp_id}/owner-approval"
        who, body = self.scene.cast.healthcenter, {"version": version}
        await self.scene.step(who, what, "consent", "PUT", path, body, expected=expected)

    async def _approve_as_patient(self, who: Actor, version: int, what: str, expected: int | str = 200) -> None:
        path = f"/me/sharings/{self.scene.other.msp_id}/approval"
        await self.scene.step(who, what, "consent", "PUT", path, {"version": version}, expected=expected)

    async def _refused(self, what: str) -> None:
        """The same answer as for a patient that there is not."""
        who = self.scene.cast.other_physician
        await self.scene.step(who, what, "records", "POST", "/disclosures", self.wanted, expected=NOT_GRANTED)

    async def _read(self, what: str, version: int) -> dict[str, Any]:
        who = self.scene.cast.other_physician
        receipt = await self.scene.step(who, what, "records", "POST", "/disclosures", self.wanted, expected=201)
        shared = await self.scene.quietly(who, "records", f"/disclosures/{receipt['receipt']}/emr")
        require(shared["version"] == version, f"version {shared['version']} was read, not {version}")
        self.scene.teller.remark(f"the receipt opens version {version}: {len(shared['notes'])} notes")
        return shared

    async def _until_shared(self, version: int) -> None:
        """The sharer answers to approvals by itself."""

        async def is_shared() -> bool:
            answer = await self.scene.quietly(self.scene.cast.patient, "consent", "/me/sharings")
            mine = [one for one in answer["sharings"] if one["recipientMsp"] == self.scene.other.msp_id]
            return bool(mine) and mine[0]["readableVersion"] == version

        seconds = await self.scene.until(is_shared, f"the sharer has not shared version {version}")
        self.scene.teller.remark(f"A's sharer seals version {version} for B and hands it over, {seconds * 1000:.0f} ms")


async def share(scene: Scene, emr: ManagedEmr) -> None:
    scene.teller.chapter("Sharing an EMR")
    what = "says under which id B can ask for the record"
    shown = await scene.step(scene.cast.patient, what, "registration", "GET", "/me")
    wanted = {"ownerMsp": shown["ownerMsp"], "patientId": shown["patientId"], "purpose": PURPOSE}
    await Sharing(scene, emr, wanted).play()

"""A consortium's life on official programs: a hospital joins, nodes die, a member is revoked, the contract changes.

Three orderers, three hospitals. The cases build on each other's network, which each leaves whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from emr_common.sealing import WrappingKey
from emr_common.wallet import Wallet
from emr_deploy.administration.site import contract
from emr_deploy.callers import Answer
from emr_deploy.clients import issuer_url
from emr_model.ledger.functions import Function
from emr_network.organizations import endpoints
from emr_network.topology import CHANNEL_ENDORSEMENT
from emr_readmodel import engine as engines
from hlf.errors import HlfError
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support.administered import Administered, administered
from support.programs import official_programs
from support.stack import Actor

pytestmark = pytest.mark.timeout(900)


@dataclass
class Scene:
    """`patients` are two of A and two of B."""

    network: Administered
    healthcenters: dict[str, Actor]
    physicians: dict[str, Actor]
    patients: list[Actor]

    async def note(self) -> Answer:
        path = f"/emrs/{self.patients[0].emr_id}/notes"
        return await self.network.call(self.physicians["a"], "records", "POST", path, {"text": "Seen today."})

    async def versions(self) -> list[int]:
        """How many notes each patient has on the ledger."""
        found = []
        for patient in self.patients:
            physician = self.physicians[patient.organization]
            answer = await self.network.call(physician, "records", "GET", f"/emrs/{patient.emr_id}")
            found.append(answer.required()["version"])
        return found

    async def until_written(self) -> None:
        async def written() -> bool:
            return (await self.note()).status == 201

        await self.network.until(written, "a note is taken", seconds=120)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    official_programs()
    root: Path = tmp_path_factory.mktemp("administered")
    async with administered(root) as network:
        healthcenters = {name: await network.staff(name, "healthcenter") for name in ("a", "b")}
        physicians = {name: await network.staff(name, "physician") for name in ("a", "b")}
        patients = [await network.patient(healthcenters[name]) for name in ("a", "a", "b", "b")]
        yield Scene(network, healthcenters, physicians, patients)


def _require_none_failed(answers: list[Answer]) -> None:
    assert answers
    failed = Counter((one.status, one.code) for one in answers if one.status != 201)
    assert not failed


async def test_a_fourth_hospital_joins_under_load_and_no_note_fails(scene: Scene) -> None:
    network = scene.network
    async with network.load(scene.patients, scene.physicians) as answers:
        said = await network.emr("network", "add-org", "d", "--network-alone")
        assert "HospitalD a member of care" in said
        before = len(answers)
    _require_none_failed(answers)
    assert len(answers) > before
    status = await network.emr("network", "status", "--json")
    assert "'HospitalD.peer'" in status
    assert "Hospital D takes part" in await network.emr("network", "add-org", "d", "--network-alone")


async def test_the_contract_is_upgraded_under_load_and_no_note_fails(scene: Scene) -> None:
    async with scene.network.load(scene.patients, scene.physicians) as answers:
        said = await scene.network.emr("network", "upgrade-chaincode", "1.1")
        assert "emr 1.1 is in force" in said
    _require_none_failed(answers)


async def test_notes_go_on_when_the_leading_orderer_is_gone(scene: Scene) -> None:
    network = scene.network
    leader = await network.leader()
    await asyncio.to_thread(network.system.supervisor.stop, [leader])
    try:
        await scene.until_written()
        assert await network.leader() != leader
    finally:
        await asyncio.to_thread(network.system.supervisor.launch, [leader])
        await network.ready(leader)


async def test_no_note_is_lost_when_the_leading_orderer_is_killed_under_load(scene: Scene) -> None:
    network = scene.network
    before = await scene.versions()
    leader = await network.leader()
    async with network.load(scene.patients, scene.physicians) as answers:
        await network.until(lambda: _have(answers, 4), "notes are written", seconds=120)
        started = time.monotonic()
        await network.kill(leader)
        wanted = _taken(answers) + 4
        await network.until(lambda: _have(answers, wanted), "notes go on", seconds=120)
        print(f"four notes taken {time.monotonic() - started:.1f} s after {leader}, which led, was killed")
    statuses = Counter(one.status for one in answers)
    print(f"answers: {dict(statuses)}")
    assert set(statuses) <= {201, 202, 503}  # what is pending is looked up, what is refused is asked again
    await network.ready(leader)
    await scene.until_written()
    written = sum(await scene.versions()) - sum(before) - 1
    assert statuses[201] <= written <= statuses[201] + statuses[202]


async def test_where_all_endorse_a_peer_that_is_down_is_named_and_endings_still_work(scene: Scene) -> None:
    network, patient = scene.network, await scene.network.patient(scene.healthcenters["a"])
    async with network.peer_stopped("c"):
        await _require_named(scene, "stopped")
        requested = await network.call(patient, "registration", "POST", "/me/erasure-request", {})
        assert requested.status == 201
        erased = await network.call(scene.healthcenters["a"], "registration", "DELETE", f"/emrs/{patient.emr_id}")
        assert erased.status == 200
    await scene.until_written()


async def test_where_all_endorse_a_peer_that_hangs_is_named_and_endings_still_work(scene: Scene) -> None:
    network, patient = scene.network, await scene.network.patient(scene.healthcenters["a"])
    async with network.hanging("peer-c"):
        for which in ("hanging, at first", "hanging, known to"):
            await _require_named(scene, which)
        requested = await network.call(patient, "registration", "POST", "/me/erasure-request", {})
        assert requested.status == 201
    await network.ready("peer-c")
    await scene.until_written()


@pytest.mark.parametrize(("command", "code"), [("network", "CERTIFICATE_REFUSED"), ("staff", "IDENTITY_UNKNOWN")])
async def test_a_revoked_member_is_refused_by_every_hospital_within_a_block(
    scene: Scene, command: str, code: str
) -> None:
    network = scene.network
    physician = await network.staff("a", "physician")
    signer = await _signer(network, physician)
    for name in ("a", "b"):
        await _list(network, name, signer)
    height = network.height
    await network.emr(command, "revoke", physician.enrolment_id, "--org", "a")
    for name in ("a", "b"):
        with pytest.raises(HlfError):
            await _list(network, name, signer)
    assert network.height == height + 1
    answer = await network.call(physician, "records", "GET", f"/emrs/{scene.patients[0].emr_id}")
    assert (answer.status, answer.code) == (403, code)
    assert (await scene.note()).status == 201


async def test_by_a_majority_notes_go_on_without_a_peer_that_is_down(scene: Scene) -> None:
    network = scene.network
    everybody = contract(network.home, network.system.topology, network.system.ports)
    members = [one.msp_id for one in network.system.topology.organizations]
    await everybody.redefine(network.system.topology.chaincode.version, CHANNEL_ENDORSEMENT, members)
    await scene.until_written()
    await network.stop("records-a")
    await network.start("records-a")  # it reads the definition anew
    async with network.peer_stopped("c"):
        for _ in range(3):
            assert (await scene.note()).status == 201
    async with network.hanging("peer-c"):
        for _ in range(3):
            started = time.monotonic()
            assert (await scene.note()).status == 201
            print(f"by a majority, peer-c hanging: 201 after {time.monotonic() - started:.1f} s")
    await network.ready("peer-c")


async def _require_named(scene: Scene, which: str) -> None:
    started = time.monotonic()
    answer = await scene.note()
    print(f"peer-c {which}: {answer.status} after {time.monotonic() - started:.1f} s")
    assert (answer.status, answer.body["hospital"]) == (503, "HospitalC")


def _taken(answers: list[Answer]) -> int:
    return sum(one.status == 201 for one in answers)


async def _have(answers: list[Answer], number: int) -> bool:
    return _taken(answers) >= number


async def _list(network: Administered, organization: str, signer: SigningIdentity) -> None:
    hospital = network.hospital(organization)
    async with Gateway(endpoints(network.home, hospital, network.system.ports)) as gateway:
        own = gateway.contract(signer, network.system.topology.channel, network.system.topology.chaincode.name)
        await own.evaluate(Function.LIST_ORGANIZATIONS.wire_name, target_organizations=[hospital.msp_id])


async def _signer(network: Administered, actor: Actor) -> SigningIdentity:
    engine = engines.create(network.home.secret(actor.organization, "database-url").read_text(), 1)
    try:
        keyset = WrappingKey.from_file(network.home.secret(actor.organization, "wallet.keyset"))
        wallet = Wallet(engine, keyset, network.msp_id(actor.organization))
        caller = await wallet.find(issuer_url(network.system.ports, actor.organization), actor.subject)
    finally:
        await engine.dispose()
    assert caller is not None
    return caller.signer

"""Changes of a channel as files, and all that is refused of them: a table of commands, the same on both ledgers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from emr_network.administration.files import OrganizationFile
from emr_network.enrolment import Enrolment
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import Ports
from emr_network.topology import load
from hlf.admin.channel import PeerOrganization
from hlf.admin.msp import MspDefinition
from hlf.certs import CertificateAuthority, private_key_to_pem
from support.devnet import Member, new_member, write_identity
from support.killed_commands import Operator

Row = tuple[str, int, str]
"""A command's words after `emr network`, its exit code, and what it says."""

NEWCOMER = "HospitalE"

TABLE: tuple[Row, ...] = (
    ("add-org a", 2, "share a name"),
    ("add-org d --msp-id HospitalB", 2, "share a mspId"),
    ("add-org d --msp-id Hospital+D", 2, "mspId"),
    ("add-org d --domain a.care.example", 2, "share a domain"),
    ("add-org d --peers 9", 2, "peers"),
    ("remove-org nobody --yes", 2, "no hospital is called 'nobody'"),
    ("revoke nobody --org a", 1, ""),
    ("export-org --org HospitalO --msp-dir {old} --out {files}/o.json", 2, "has expired"),
    ("export-org --org HospitalN --msp-dir {files} --out {files}/n.json", 2, ""),
    ("propose-org {files}/nothing.json --out {files}/p.json", 2, "cannot be read"),
    ("propose-org {files}/copied.json --out {files}/p.json", 1, "HospitalZ"),
    ("propose-org --remove HospitalQ --out {files}/p.json", 1, "no organization HospitalQ"),
    ("export-org --org a --out {files}/a.json", 0, "HospitalA"),
    ("propose-org {files}/a.json --out {files}/p.json", 1, "has an organization HospitalA already"),
    ("export-org --org HospitalE --msp-dir {newcomer} --anchor 127.0.0.1:9 --out {files}/e.json", 0, NEWCOMER),
    ("propose-org {files}/e.json --out {files}/add.json", 0, "add HospitalE"),
    ("propose-org --remove HospitalB --out {files}/other.json", 0, "remove HospitalB"),
    ("sign {files}/e.json --org a --out {files}/x.sig", 2, "no proposal file"),
    ("sign {files}/add.json --org a --out {files}/a.sig", 0, "HospitalA signs: add HospitalE"),
    ("sign {files}/add.json --org HospitalO --msp-dir {late} --out {files}/late.sig", 2, "has expired"),
    ("sign {files}/add.json --org HospitalX --msp-dir {stranger} --out {files}/x.sig", 0, "HospitalX signs"),
    ("sign {files}/add.json --org HospitalB --msp-dir {service} --out {files}/s.sig", 0, "HospitalB signs"),
    ("sign {files}/other.json --org b --out {files}/o.sig", 0, "remove HospitalB"),
    ("submit {files}/add.json {files}/a.sig --org a", 1, "still to sign: HospitalB"),
    ("submit {files}/add.json {files}/a.sig {files}/x.sig --org a", 1, "HospitalX"),
    ("submit {files}/add.json {files}/a.sig {files}/s.sig --org a", 1, "HospitalB"),
    ("submit {files}/add.json {files}/a.sig {files}/o.sig --org a", 1, "HospitalB"),
    ("submit {files}/add.json {files}/a.sig {files}/a.sig --org a", 1, "still to sign: HospitalB"),
)
"""Nothing of this changes the channel."""

CHANGES: tuple[Row, ...] = (
    ("sign {files}/add.json --org b --out {files}/b.sig", 0, "HospitalB signs"),
    ("submit {files}/add.json {files}/a.sig {files}/b.sig --org a", 0, "in force: add HospitalE"),
    ("submit {files}/add.json {files}/a.sig {files}/b.sig --org a", 1, ""),
    ("propose-org {files}/e.json --out {files}/p.json", 1, "has an organization HospitalE already"),
    ("propose-org --remove HospitalE --out {files}/remove.json", 0, "remove HospitalE"),
    ("sign {files}/remove.json --org a --out {files}/a.sig", 0, "HospitalA signs"),
    ("sign {files}/remove.json --org b --out {files}/b.sig", 0, "HospitalB signs"),
    ("submit {files}/remove.json {files}/a.sig {files}/b.sig --org b", 0, "in force: remove HospitalE"),
)


async def a_change_by_files(operator: Operator, folder: Path) -> None:
    """Bad input changes nothing; a hospital is added and removed by signatures that came as files."""
    places = make_files(Home(operator.home), folder / "files")
    before = await operator.status()
    await try_all(operator, TABLE, places)
    assert await operator.status() == before
    assert not (operator.home / "underway.yaml").exists()
    await try_all(operator, CHANGES, places)
    assert (await operator.status()).height == before.height + 2


async def try_all(operator: Operator, rows: tuple[Row, ...], places: dict[str, Path]) -> None:
    """Each command of a table, in one process."""
    calls = [["network", *(word.format_map(places) for word in row[0].split())] for row in rows]
    for (command, code, text), (found, said) in zip(rows, await operator.emr_many(calls), strict=True):
        assert found == code, f"{command}: {found}: {said}"
        assert text in said, f"{command}: {said}"


def make_files(home: Home, folder: Path) -> dict[str, Path]:
    """What the tables' commands name."""
    folder.mkdir()
    topology = load(home.topology)
    ports = Ports.plan(home.ports, topology)
    own = MspDefinition.from_dir(peer_organization(home, topology.organizations[0]).msp, "HospitalA")
    OrganizationFile(
        PeerOrganization(MspDefinition("HospitalZ", own.root_certs, own.tls_root_certs), ("127.0.0.1:9",))
    ).write(folder / "copied.json")
    stranger, late = (new_member(name, folder / name) for name in ("HospitalX", "HospitalO"))
    return {
        "files": folder,
        "newcomer": new_member(NEWCOMER, folder / NEWCOMER).msp_dir,
        "old": _expired(folder / "old"),
        "late": _administrator(late, folder / "late", not_after=datetime.now(UTC) - timedelta(days=1)),
        "stranger": _administrator(stranger, folder / "stranger"),
        "service": Enrolment(home, topology.organization("b"), ports).service_folder,
    }


def _administrator(member: Member, folder: Path, not_after: datetime | None = None) -> Path:
    now = None if not_after is None else not_after - timedelta(days=1)
    identity = member.identity("admin", role="admin", not_after=not_after, now=now)
    write_identity(folder, member, identity.certificate_pem, private_key_to_pem(identity.private_key))
    return folder


def _expired(folder: Path) -> Path:
    """A verifying MSP whose authorities are of another time."""
    msp = new_member("HospitalO", folder).msp_dir
    authority = CertificateAuthority.create(
        "ca", "HospitalO", lifetime=timedelta(days=30), now=datetime.now(UTC) - timedelta(days=60)
    )
    (msp / "cacerts" / "ca.pem").write_bytes(authority.certificate_pem)
    return msp

"""The development CA, called by hlf's client over HTTPS."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from hlf import certs
from hlf.ca import CaClient, Enrollment
from hlf.certs import new_csr, new_private_key
from hlf.errors import CaError
from hlf.identity import SigningIdentity
from hlf_devnet.ca.__main__ import open_authority
from hlf_devnet.ca.api import ca_app
from hlf_devnet.ca.authority import Authority
from hlf_devnet.ca.config import Authority as Settings
from hlf_devnet.http_server import embedded
from support.devnet import new_member
from support.ports import free_address

REGISTRAR, SECRET = "registrar", "a-secret-for-tests"
AUTHENTICATION, AUTHORIZATION, DUPLICATE, WRONG_NAME = 20, 71, 74, 77


@dataclass
class RunningCa:
    settings: Settings
    authority: Authority
    client: CaClient
    registrar: SigningIdentity

    async def enrolled(self, name: str, **options: str) -> Enrollment:
        secret = await self.client.register(self.registrar, name, attributes=options)
        return await self.client.enroll(name, secret)


@pytest.fixture
async def ca(tmp_path: Path) -> AsyncIterator[RunningCa]:
    member = new_member("HospitalA", tmp_path / "org")
    for name, content in (
        ("ca.pem", member.authority.certificate_pem),
        ("ca.key", member.authority.key_pem),
        ("secret", SECRET.encode()),
    ):
        (tmp_path / name).write_bytes(content)
    settings = Settings.model_validate(
        {
            "name": "ca.a.example",
            "msp_id": "HospitalA",
            "listen": free_address(),
            "ca_cert": tmp_path / "ca.pem",
            "ca_key": tmp_path / "ca.key",
            "tls_cert": member.folder / "tls.crt",
            "tls_key": member.folder / "tls.key",
            "registrar": {"id": REGISTRAR, "secret_file": tmp_path / "secret"},
            "crl_file": member.crl_file,
        }
    )
    authority = open_authority(settings, tmp_path / "ca")
    server = embedded(ca_app(authority), settings.listen, settings.tls_cert, settings.tls_key)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    tls_ca = member.tls_authority.certificate_pem
    async with CaClient(f"https://{settings.listen}", tls_ca, settings.name) as client:
        registrar = (await client.enroll(REGISTRAR, SECRET)).signing_identity("HospitalA")
        yield RunningCa(settings, authority, client, registrar)
    server.should_exit = True
    await serving
    authority.store.close()


async def refused(call: object) -> CaError:
    with pytest.raises(CaError) as caught:
        await call  # type: ignore[misc]
    return caught.value


async def test_the_registrar_registers_an_identity_that_enrols_with_its_attributes(ca: RunningCa) -> None:
    enrolled = await ca.enrolled("p-1", **{"emr.role": "patient", "emr.patientId": "1f"})
    certificate = certs.certificate_from_pem(enrolled.certificate_pem)
    assert certs.attributes_of(certificate) == {
        "emr.role": "patient",
        "emr.patientId": "1f",
        "hf.EnrollmentID": "p-1",
        "hf.Type": "client",
        "hf.Affiliation": "",
    }
    assert certs.organizational_units_of(certificate) == ("client",)
    assert certs.is_issued_by(certificate, ca.authority.signer.certificate)
    assert enrolled.ca_chain_pem == ca.authority.signer.certificate_pem


async def test_an_enrolment_may_ask_for_some_attributes_only(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "p-2", attributes={"emr.role": "patient", "other": "x"})
    enrolled = await ca.client.enroll("p-2", secret, attributes=["other"])
    assert certs.attributes_of(certs.certificate_from_pem(enrolled.certificate_pem)) == {"other": "x"}
    error = await refused(ca.client.enroll("p-2", secret, attributes=["missing"]))
    assert "required attributes are missing: [missing]" in str(error)


async def test_info_names_the_authority_and_gives_its_chain(ca: RunningCa) -> None:
    info = await ca.client.info()
    assert (info.name, info.chain_pem) == ("ca.a.example", ca.authority.signer.certificate_pem)


async def test_a_wrong_secret_and_an_unknown_identity_are_refused_alike(ca: RunningCa) -> None:
    for name in (REGISTRAR, "nobody"):
        error = await refused(ca.client.enroll(name, "wrong"))
        assert (error.http_status, error.ca_code) == (401, AUTHENTICATION)


async def test_after_ten_wrong_secrets_the_right_one_is_refused(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "p-3")
    for _ in range(10):
        await refused(ca.client.enroll("p-3", "wrong"))
    assert (await refused(ca.client.enroll("p-3", secret))).http_status == 401


async def test_an_identity_enrols_no_more_often_than_it_was_registered_for(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "p-4", max_enrollments=1)
    await ca.client.enroll("p-4", secret)
    assert (await refused(ca.client.enroll("p-4", secret))).http_status == 401


async def test_the_common_name_of_the_request_must_be_the_enrolment_id(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "p-5")
    csr = new_csr("p-6", new_private_key())
    error = await refused(ca.client.enroll("p-5", secret, csr_pem=csr))
    assert (error.http_status, error.ca_code) == (403, WRONG_NAME)


async def test_one_name_is_registered_once(ca: RunningCa) -> None:
    await ca.client.register(ca.registrar, "p-7")
    error = await refused(ca.client.register(ca.registrar, "p-7"))
    assert (error.http_status, error.ca_code) == (409, DUPLICATE)


async def test_whoever_is_no_registrar_registers_nobody_and_revokes_only_themselves(ca: RunningCa) -> None:
    one = (await ca.enrolled("p-8")).signing_identity("HospitalA")
    await ca.enrolled("p-9")
    for call in (
        ca.client.register(one, "p-10"),
        ca.client.revoke(one, id="p-9"),
        ca.client.gencrl(one),
    ):
        error = await refused(call)
        assert (error.http_status, error.ca_code) == (403, AUTHORIZATION)
    assert len((await ca.client.revoke(one, id="p-8")).certificates) == 1


@pytest.mark.parametrize("name", ["hf.EnrollmentID", "hf.Type", "hf.Affiliation"])
async def test_fixed_attributes_cannot_be_registered(ca: RunningCa, name: str) -> None:
    error = await refused(ca.client.register(ca.registrar, "p-11", attributes={name: "x"}))
    assert error.http_status == 403


async def test_a_registrar_with_limits_passes_on_no_more_than_it_has(ca: RunningCa) -> None:
    limits = {"hf.Registrar.Roles": "client", "hf.Registrar.Attributes": "emr.*,hf.Revoker"}
    limited = (await ca.enrolled("r-1", **limits)).signing_identity("HospitalA")
    await ca.client.register(limited, "p-12", attributes={"emr.role": "patient"})
    for options in (
        {"type": "admin"},
        {"attributes": {"other": "x"}},
        {"attributes": {"hf.Revoker": "true"}},
    ):
        assert (await refused(ca.client.register(limited, "p-13", **options))).http_status == 403


async def test_a_revoked_certificate_stands_in_the_list_and_opens_nothing(ca: RunningCa) -> None:
    enrolled = await ca.enrolled("p-14")
    certificate = certs.certificate_from_pem(enrolled.certificate_pem)
    serial, aki = certs.serial_of(certificate), certs.authority_key_id_of(certificate)
    revocation = await ca.client.revoke(ca.registrar, serial=serial, aki=aki, reason="keycompromise", with_crl=True)
    assert revocation.certificates == ((serial, aki.lstrip("0")),)
    assert revocation.crl_pem is not None
    published = x509.load_pem_x509_crl(ca.settings.crl_file.read_bytes())
    for crl in (published, x509.load_pem_x509_crl(revocation.crl_pem)):
        assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        assert crl.is_signature_valid(certs.public_key_of(ca.authority.signer.certificate))
    error = await refused(ca.client.reenroll(enrolled.signing_identity("HospitalA")))
    assert (error.http_status, error.ca_code) == (401, AUTHENTICATION)
    assert (await refused(ca.client.revoke(ca.registrar, serial=serial, aki=aki))).http_status == 404


async def test_revoking_an_identity_revokes_all_its_certificates_and_bars_it(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "p-15")
    for _ in range(3):
        await ca.client.enroll("p-15", secret)
    assert len((await ca.client.revoke(ca.registrar, id="p-15")).certificates) == 3
    assert (await refused(ca.client.enroll("p-15", secret))).http_status == 401
    crl = x509.load_pem_x509_crl(await ca.client.gencrl(ca.registrar))
    assert len(list(crl)) == 3


async def test_reenrolment_gives_a_fresh_certificate_with_the_same_attributes(ca: RunningCa) -> None:
    enrolled = await ca.enrolled("p-16", **{"emr.role": "physician"})
    again = await ca.client.reenroll(enrolled.signing_identity("HospitalA"))
    first, second = (certs.certificate_from_pem(one.certificate_pem) for one in (enrolled, again))
    assert first.serial_number != second.serial_number
    assert certs.attributes_of(first) == certs.attributes_of(second)


async def test_tls_certificates_come_with_the_names_that_were_asked_for(ca: RunningCa) -> None:
    secret = await ca.client.register(ca.registrar, "server", type="client")
    enrolled = await ca.client.enroll("server", secret, profile="tls", sans=["db.example", "127.0.0.1"])
    certificate = certs.certificate_from_pem(enrolled.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db.example"]


async def test_a_token_counts_for_its_own_request_only(ca: RunningCa, tmp_path: Path) -> None:
    body = b'{"id": "p-17"}'
    certificate = base64.b64encode(ca.registrar.certificate_pem).decode()
    path, encoded = (base64.b64encode(part).decode() for part in (b"/api/v1/gencrl", body))
    signature = ca.registrar.sign(f"POST.{path}.{encoded}.{certificate}".encode())
    token = f"{certificate}.{base64.b64encode(signature).decode()}"
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        url = f"https://{ca.settings.listen}/api/v1/register"
        answer = await http.post(url, content=body, headers={"Authorization": token})
    assert answer.status_code == 401
    assert answer.json()["errors"] == [{"code": AUTHENTICATION, "message": "Authentication failure"}]


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b'{"id": 7}', 400), (b"[]", 400), (b"x" * 300_000, 413)]
)
async def test_malformed_bodies_are_refused_without_being_echoed(ca: RunningCa, body: bytes, status: int) -> None:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        answer = await http.post(f"https://{ca.settings.listen}/api/v1/register", content=body)
    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert "xxx" not in answer.text


async def test_everything_survives_a_restart(ca: RunningCa, tmp_path: Path) -> None:
    enrolled = await ca.enrolled("p-18")
    await ca.client.revoke(ca.registrar, id="p-18")
    ca.settings.crl_file.unlink()
    reopened = open_authority(ca.settings, tmp_path / "ca")
    certificate = certs.certificate_from_pem(enrolled.certificate_pem)
    stored = reopened.store.certificate(
        certs.serial_of(certificate), certs.authority_key_id_of(certificate).lstrip("0")
    )
    assert stored is not None
    assert stored.revoked
    crl = x509.load_pem_x509_crl(ca.settings.crl_file.read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    reopened.store.close()

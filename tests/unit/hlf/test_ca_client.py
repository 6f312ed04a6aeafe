"""The same cases on the development CA and, where its program is found (PATH or FABRIC_BIN), on official fabric-ca."""

import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from hlf import certs, crypto
from hlf.ca import CaClient, Enrollment
from hlf.certs import CertificateAuthority, new_private_key
from hlf.errors import CaError
from hlf.identity import Identity, SigningIdentity
from support.ca_servers import REGISTRAR, SECRET, Server, ca_server
from support.hlf_blocks import new_member
from support.ports import free_port


@pytest.fixture(scope="module", params=["devnet", "official"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ca_server(request.param, tmp_path_factory.mktemp("ca")) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[CaClient]:
    async with CaClient(server.url, server.tls_ca_pem) as opened:
        yield opened


@pytest.fixture
async def registrar(client: CaClient) -> SigningIdentity:
    return (await client.enroll(REGISTRAR, SECRET)).signing_identity("HospitalA")


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: f"p-{os.urandom(8).hex()}"


def identity_of(enrollment: Enrollment) -> Identity:
    return Identity("HospitalA", enrollment.certificate_pem)


async def register_and_enroll(
    client: CaClient, registrar: SigningIdentity, name: str, **attributes: str
) -> SigningIdentity:
    secret = await client.register(registrar, name, attributes=attributes)
    return (await client.enroll(name, secret)).signing_identity("HospitalA")


async def test_info_gives_the_chain_that_issues_certificates(client: CaClient, registrar: SigningIdentity) -> None:
    info = await client.info()
    authority = certs.certificate_from_pem(info.chain_pem)
    assert certs.is_issued_by(registrar.identity.certificate, authority)
    assert info.version


async def test_a_registered_identity_enrols_with_its_attributes(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    name = new_id()
    attributes = {"emr.role": "patient", "emr.patientId": "0f" * 16}
    secret = await client.register(registrar, name, attributes=attributes, max_enrollments=1)
    enrollment = await client.enroll(name, secret)
    identity = identity_of(enrollment)
    assert identity.common_name == name
    assert certs.organizational_units_of(identity.certificate)[0] == "client"
    assert attributes.items() <= identity.attributes.items()
    assert enrollment.ca_chain_pem == (await client.info()).chain_pem


async def test_a_secret_may_be_chosen_and_is_used_up(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    name = new_id()
    assert await client.register(registrar, name, secret="chosen", max_enrollments=1) == "chosen"
    await client.enroll(name, "chosen")
    with pytest.raises(CaError) as raised:
        await client.enroll(name, "chosen")
    assert raised.value.http_status == 401


async def test_a_csr_keeps_the_key_where_it_was_made(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    name, key = new_id(), new_private_key()
    secret = await client.register(registrar, name)
    enrollment = await client.enroll(name, secret, csr_pem=certs.new_csr(name, key))
    assert enrollment.private_key is None
    assert certs.public_key_of(identity_of(enrollment).certificate) == key.public_key()
    with pytest.raises(ValueError, match="elsewhere"):
        enrollment.signing_identity("HospitalA")


async def test_a_certificate_holds_the_attributes_that_were_asked_for(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id(), **{"emr.role": "patient", "other": "x"})
    narrowed = identity_of(await client.reenroll(person, attributes=["emr.role"])).attributes
    assert narrowed["emr.role"] == "patient"
    assert "other" not in narrowed
    with pytest.raises(CaError):
        await client.reenroll(person, attributes=["emr.unheard"])


async def test_reenrolling_gives_another_certificate_of_the_same_identity(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id(), **{"emr.role": "physician"})
    renewed = identity_of(await client.reenroll(person))
    assert renewed.common_name == person.identity.common_name
    assert renewed.attributes["emr.role"] == "physician"
    assert renewed.certificate.serial_number != person.identity.certificate.serial_number


async def test_a_certificate_is_renewed_by_a_signature_that_was_made_elsewhere(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id(), **{"emr.role": "physician"})
    key, before = new_private_key(), person.certificate_pem
    csr = certs.new_csr(person.identity.common_name, key)
    to_sign = client.reenrollment_to_sign(before, csr)
    renewed = await client.reenroll_signed(before, csr, person.sign(to_sign))
    assert renewed.private_key is None
    identity = Identity("HospitalA", renewed.certificate_pem)
    assert identity.certificate.public_key() == key.public_key()
    assert identity.attributes["emr.role"] == "physician"
    for signature in (person.sign(b"another"), crypto.sign(key, to_sign)):
        with pytest.raises(CaError):
            await client.reenroll_signed(before, csr, signature)


async def test_a_name_is_registered_once(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    name = new_id()
    await client.register(registrar, name)
    with pytest.raises(CaError) as raised:
        await client.register(registrar, name)
    assert (raised.value.http_status, raised.value.ca_code) == (409, 74)
    assert not raised.value.retriable


async def test_wrong_secrets_and_unknown_names_look_the_same(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    name = new_id()
    await client.register(registrar, name)
    messages = []
    for who in (name, new_id()):
        with pytest.raises(CaError) as raised:
            await client.enroll(who, "wrong-secret")
        assert raised.value.http_status == 401
        assert "wrong-secret" not in str(raised.value)
        messages.append(raised.value.message)
    assert messages[0] == messages[1]


async def test_only_a_registrar_registers_and_revokes(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id())
    for attempt in (client.register(person, new_id()), client.revoke(person, id=registrar.identity.common_name)):
        with pytest.raises(CaError) as raised:
            await attempt
        assert raised.value.http_status in {401, 403}


async def test_a_stranger_has_no_say(client: CaClient, new_id: Callable[[], str]) -> None:
    with pytest.raises(CaError) as raised:
        await client.register(new_member("HospitalA", REGISTRAR), new_id())
    assert raised.value.http_status == 401


async def test_a_revoked_identity_stands_in_the_list_and_cannot_come_back(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id())
    revocation = await client.revoke(registrar, id=person.identity.common_name, reason="keycompromise", with_crl=True)
    certificate = person.identity.certificate
    [(serial, aki)] = revocation.certificates
    assert int(serial, 16) == certificate.serial_number
    assert int(aki, 16) == int(certs.authority_key_id_of(certificate), 16)  # official CAs leave out leading zeros
    assert revocation.crl_pem is not None
    for pem in (revocation.crl_pem, await client.gencrl(registrar)):
        assert certificate.serial_number in {entry.serial_number for entry in x509.load_pem_x509_crl(pem)}
    with pytest.raises(CaError):
        await client.reenroll(person)


async def test_one_certificate_of_several_can_be_revoked(
    client: CaClient, registrar: SigningIdentity, new_id: Callable[[], str]
) -> None:
    person = await register_and_enroll(client, registrar, new_id())
    lost = identity_of(await client.reenroll(person)).certificate
    await client.revoke(registrar, serial=certs.serial_of(lost), aki=certs.authority_key_id_of(lost))
    serials = {entry.serial_number for entry in x509.load_pem_x509_crl(await client.gencrl(registrar))}
    assert lost.serial_number in serials
    assert person.identity.certificate.serial_number not in serials
    await client.reenroll(person)


async def test_what_to_revoke_must_be_said(client: CaClient, registrar: SigningIdentity) -> None:
    cases: tuple[dict[str, Any], ...] = ({}, {"serial": "1f"}, {"id": "x", "serial": "1", "aki": "2"})
    for nothing in cases:
        with pytest.raises(ValueError, match="either"):
            await client.revoke(registrar, **nothing)


async def test_a_server_with_another_certificate_is_not_spoken_to(server: Server) -> None:
    other = CertificateAuthority.create("other", "other")
    async with CaClient(server.url, other.certificate_pem) as client:
        with pytest.raises(CaError, match="no answer") as raised:
            await client.info()
    assert isinstance(raised.value.__cause__, httpx.ConnectError)


async def test_an_absent_ca_is_a_passing_failure() -> None:
    async with CaClient(f"https://localhost:{free_port()}") as client:
        with pytest.raises(CaError, match="no answer") as raised:
            await client.enroll("p-1", "a-secret")
    assert raised.value.retriable
    assert "a-secret" not in str(raised.value)


def answering(status: int, content: Any) -> CaClient:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content if isinstance(content, bytes) else json.dumps(content))

    return CaClient("https://ca", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (502, b"<html>", r"\(502\) is not JSON"),
        (200, [1], "is not an object"),
        (200, {"success": True, "result": None}, "no reason given"),
        (200, {"success": False, "result": {}, "errors": [{"code": 5, "message": "Bad"}]}, "cainfo: Bad"),
        (200, {"success": True, "result": {}}, "lacks CAName"),
        (200, {"success": True, "result": {"CAName": "", "CAChain": "%"}}, "no base64 in CAChain"),
    ],
)
async def test_malformed_answers_are_errors(status: int, content: Any, message: str) -> None:
    async with answering(status, content) as client:
        with pytest.raises(CaError, match=message):
            await client.info()


async def test_the_token_signs_method_path_and_body() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"success": True, "result": {"secret": "s"}})

    registrar = new_member()
    client = CaClient("https://ca/behind/a/proxy", ca_name="ca-a", transport=httpx.MockTransport(answer))
    async with client:
        await client.register(registrar, "p-1")
    [request] = requests
    assert request.url.path == "/behind/a/proxy/api/v1/register"
    assert json.loads(request.content)["caname"] == "ca-a"
    certificate, signature = request.headers["Authorization"].split(".")
    assert base64.b64decode(certificate) == registrar.certificate_pem
    path, body = (base64.b64encode(part).decode() for part in (request.url.raw_path, request.content))
    signed = f"POST.{path}.{body}.{certificate}".encode()
    assert registrar.identity.verify(base64.b64decode(signature), signed)

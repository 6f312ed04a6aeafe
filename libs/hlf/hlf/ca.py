"""Client of a certificate authority that speaks fabric-ca's REST interface (fabric-ca `api/`)."""

import base64
import binascii
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from hlf.certs import new_csr, new_private_key
from hlf.errors import CaError
from hlf.identity import SigningIdentity

_API = "/api/v1"
KEEP_ALIVE_SECONDS = 2.0
"""Less than servers keep an idle connection (5 s is common): no request is to meet the end of the one it is sent on."""


class Registrar(Protocol):
    """Whoever calls in the name of an enrolled identity; a SigningIdentity is one."""

    @property
    def certificate_pem(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """A low-S DER signature over SHA-256 of `message`."""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A certificate, the CA's chain, and the key made for it here; None if the key stayed with whoever made the CSR."""

    certificate_pem: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey | None = field(repr=False)
    ca_chain_pem: bytes = field(repr=False)
    ca_name: str

    def signing_identity(self, msp_id: str) -> SigningIdentity:
        """ValueError if the key is not here."""
        if self.private_key is None:
            raise ValueError("the key of this enrolment is elsewhere")
        return SigningIdentity(msp_id, self.certificate_pem, self.private_key)


@dataclass(frozen=True, slots=True)
class CaInfo:
    name: str
    chain_pem: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """The certificates that were revoked, as (serial, authority key id), both hex; and the CA's list if asked for."""

    certificates: tuple[tuple[str, str], ...]
    crl_pem: bytes | None


class CaClient:
    """Use it with `async with`, or `close` it. Every method raises CaError.

    `tls_ca_pem` holds the certificates that may have issued the server's; None means those of the system.
    `ca_name` chooses among the CAs of one server. `transport` replaces the connection.
    """

    def __init__(
        self,
        url: str,
        tls_ca_pem: bytes | None = None,
        ca_name: str = "",
        *,
        timeout_seconds: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._ca_name = ca_name
        verify = ssl.create_default_context(cadata=tls_ca_pem.decode() if tls_ca_pem else None)
        self._http = httpx.AsyncClient(
            base_url=url,
            verify=verify,
            timeout=timeout_seconds,
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def info(self) -> CaInfo:
        result = await self._post("cainfo", {})
        return CaInfo(_text(result, "CAName"), _pem(result, "CAChain"), str(result.get("Version", "")))

    async def enroll(
        self,
        enrollment_id: str,
        secret: str,
        *,
        private_key: ec.EllipticCurvePrivateKey | None = None,
        csr_pem: bytes | None = None,
        attributes: Sequence[str] | None = None,
        profile: str = "",
        sans: Sequence[str] = (),
    ) -> Enrollment:
        """A certificate for whoever knows the secret of `enrollment_id`.

        Without `private_key` and `csr_pem` a key is made here. `attributes` are those wanted in the certificate, all
        of them registered for the identity; None means those registered to go into every certificate. `profile` "tls"
        gives a TLS certificate. The CSR's common name has to be the enrolment id.
        """
        key, csr = _key_and_csr(enrollment_id, private_key, csr_pem, sans)
        body = _enrollment_body(csr, attributes, profile)
        result = await self._post("enroll", body, auth=httpx.BasicAuth(enrollment_id, secret))
        return _enrollment(result, key)

    async def reenroll(
        self,
        identity: SigningIdentity,
        *,
        private_key: ec.EllipticCurvePrivateKey | None = None,
        csr_pem: bytes | None = None,
        attributes: Sequence[str] | None = None,
        profile: str = "",
        sans: Sequence[str] = (),
    ) -> Enrollment:
        """A fresh certificate for an identity that has one; for a new key, unless one is given."""
        key, csr = _key_and_csr(identity.identity.common_name, private_key, csr_pem, sans)
        return _enrollment(await self._post("reenroll", _enrollment_body(csr, attributes, profile), identity), key)

    def reenrollment_to_sign(self, certificate_pem: bytes, csr_pem: bytes) -> bytes:
        """What whoever holds a certificate's key signs, elsewhere, to have a fresh one made of the CSR."""
        content = self._content(_enrollment_body(csr_pem, None, ""))
        return _signed_by_token(certificate_pem, "POST", self._path("reenroll"), content)

    async def reenroll_signed(self, certificate_pem: bytes, csr_pem: bytes, signature: bytes) -> Enrollment:
        """A fresh certificate for a CSR; `signature` is the low-S one of `reenrollment_to_sign`."""
        holder = _SignedElsewhere(certificate_pem, signature)
        return _enrollment(await self._post("reenroll", _enrollment_body(csr_pem, None, ""), holder), None)

    async def register(
        self,
        registrar: Registrar,
        enrollment_id: str,
        *,
        secret: str | None = None,
        type: str = "client",
        affiliation: str = "",
        attributes: Mapping[str, str] | None = None,
        max_enrollments: int = 0,
    ) -> str:
        """Makes an identity known, and gives the secret with which it can enrol: `secret`, or one the CA chose.

        `attributes` go into its certificates, except those with which fabric-ca itself controls access ("hf.…").
        `max_enrollments` 0 leaves it to the CA, -1 sets no limit.
        """
        body = {
            "id": enrollment_id,
            "type": type,
            "affiliation": affiliation,
            "max_enrollments": max_enrollments,
            "attrs": [
                {"name": name, "value": value, "ecert": not name.startswith("hf.")}
                for name, value in (attributes or {}).items()
            ],
        }
        if secret is not None:
            body["secret"] = secret
        return _text(await self._post("register", body, registrar), "secret")

    async def revoke(
        self,
        registrar: Registrar,
        *,
        id: str = "",
        serial: str = "",
        aki: str = "",
        reason: str = "",
        with_crl: bool = False,
    ) -> Revocation:
        """Revokes one certificate (`serial` and `aki`, hex), or an identity with all of its certificates.

        `reason` is one of RFC 5280, such as "keycompromise". The network learns of it by a revocation list only.
        """
        if bool(id) == bool(serial and aki):
            raise ValueError("name either an enrolment id or serial and authority key id")
        body = {"id": id, "serial": serial, "aki": aki, "reason": reason, "gencrl": with_crl}
        result = await self._post("revoke", {name: value for name, value in body.items() if value}, registrar)
        certificates = tuple((entry["Serial"], entry["AKI"]) for entry in result.get("RevokedCerts") or ())
        return Revocation(certificates, _pem(result, "CRL") if with_crl else None)

    async def gencrl(self, registrar: Registrar) -> bytes:
        """The PEM revocation list of all certificates that are revoked and not expired."""
        return _pem(await self._post("gencrl", {}, registrar), "CRL")

    async def _post(
        self,
        action: str,
        body: Mapping[str, Any],
        caller: Registrar | None = None,
        auth: httpx.BasicAuth | None = None,
    ) -> dict[str, Any]:
        content = self._content(body)
        headers = {"Content-Type": "application/json"}
        if caller:
            headers["Authorization"] = _token(caller, "POST", self._path(action), content)
        try:
            response = await self._http.post(
                f"{_API}/{action}", content=content, headers=headers, auth=auth or httpx.Auth()
            )
        except httpx.HTTPError as error:
            is_unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise CaError(f"{action}: no answer from the CA ({type(error).__name__})", retriable=is_unsent) from error
        return _result(action, response)

    def _content(self, body: Mapping[str, Any]) -> bytes:
        return json.dumps({**body, "caname": self._ca_name} if self._ca_name else body).encode()

    def _path(self, action: str) -> str:
        return self._http.base_url.path.rstrip("/") + f"{_API}/{action}"


@dataclass(frozen=True, slots=True)
class _SignedElsewhere:
    certificate_pem: bytes
    signature: bytes

    def sign(self, _: bytes) -> bytes:
        return self.signature


def _token(caller: Registrar, method: str, path: str, body: bytes) -> str:
    """fabric-ca's authorization token (`util.GenECDSAToken`)."""
    signed = _signed_by_token(caller.certificate_pem, method, path, body)
    return f"{_base64(caller.certificate_pem)}.{_base64(caller.sign(signed))}"


def _signed_by_token(certificate_pem: bytes, method: str, path: str, body: bytes) -> bytes:
    return f"{method}.{_base64(path.encode())}.{_base64(body)}.{_base64(certificate_pem)}".encode()


def _key_and_csr(
    common_name: str, private_key: ec.EllipticCurvePrivateKey | None, csr_pem: bytes | None, sans: Sequence[str]
) -> tuple[ec.EllipticCurvePrivateKey | None, bytes]:
    if csr_pem is not None:
        return private_key, csr_pem
    key = private_key or new_private_key()
    return key, new_csr(common_name, key, sans)


def _enrollment_body(csr_pem: bytes, attributes: Sequence[str] | None, profile: str) -> dict[str, Any]:
    body: dict[str, Any] = {"certificate_request": csr_pem.decode()}
    if attributes is not None:
        body["attr_reqs"] = [{"name": name, "optional": False} for name in attributes]
    if profile:
        body["profile"] = profile
    return body


def _enrollment(result: dict[str, Any], key: ec.EllipticCurvePrivateKey | None) -> Enrollment:
    server = result.get("ServerInfo")
    if not isinstance(server, dict):
        raise CaError("the CA's answer lacks ServerInfo")
    return Enrollment(_pem(result, "Cert"), key, _pem(server, "CAChain"), _text(server, "CAName"))


def _result(action: str, response: httpx.Response) -> dict[str, Any]:
    status = response.status_code
    try:
        document = response.json()
    except ValueError as error:
        raise CaError(f"{action}: the CA's answer ({status}) is not JSON", http_status=status) from error
    if not isinstance(document, dict):
        raise CaError(f"{action}: the CA's answer ({status}) is not an object", http_status=status)
    result = document.get("result")
    if response.is_success and document.get("success") and isinstance(result, dict):
        return result
    errors = document.get("errors") or [{}]
    message, code = errors[0].get("message", "no reason given"), errors[0].get("code")
    raise CaError(f"{action}: {message}", http_status=status, ca_code=code)


def _text(result: Mapping[str, Any], name: str) -> str:
    value = result.get(name)
    if not isinstance(value, str):
        raise CaError(f"the CA's answer lacks {name}")
    return value


def _pem(result: Mapping[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_text(result, name), validate=True)
    except binascii.Error as error:
        raise CaError(f"the CA's answer has no base64 in {name}") from error


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()

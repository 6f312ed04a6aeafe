"""A token issuer for development: OpenID Connect discovery, keys, the client-credentials grant; one per hospital.

`python -m emr_deploy.issuer EMR_HOME [HOST]` serves `http://127.0.0.1:PORT/{hospital}`. Whoever holds a client's
secret, a file in `secrets/{hospital}/clients/` named after the token's subject, gets a token for that subject.
Production uses a real issuer: the services know it only by its URL, its audience and its published keys.

A client with registered keys may show an assertion instead (SMART Backend Services): its token lasts five minutes.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from emr_network.home import Home
from emr_network.ports import HOST, Ports
from emr_network.topology import Organization, load
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.jwk import ECKey

from emr_deploy.assertions import (
    ALGORITHMS,
    ASSERTION_TYPE,
    AssertionRefused,
    Assertions,
    UsedAssertions,
    client_of,
)
from emr_deploy.clients import SUBJECT, audience, issuer_url, registered_keys, secret_file

TOKEN_SECONDS = 12 * 3600
BACKEND_TOKEN_SECONDS = 300
MAX_FORM_BYTES = 16 * 1024
SCOPES = ("system/*.rs",)
"""What a backend service may ask for. It decides nothing: what somebody may do is in their certificate."""


class Issuer:
    """One hospital's issuer: its signing key, and which clients it knows."""

    def __init__(self, home: Home, organization: Organization, url: str) -> None:
        self._home = home
        self._organization = organization
        self.url = url
        pem = home.secret(organization.name, "issuer.key").read_bytes()
        self._key = ECKey.import_key(pem)
        self._key.ensure_kid()
        used = UsedAssertions(home.root / "issuer" / f"{organization.name}.sqlite")
        self._assertions = Assertions(self.token_endpoint, used)

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks.json",
            "token_endpoint": self.token_endpoint,
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
            "scopes_supported": list(SCOPES),
            "id_token_signing_alg_values_supported": ["ES256"],
            "subject_types_supported": ["public"],
        }

    @property
    def smart_configuration(self) -> dict[str, Any]:
        """SMART App Launch 2.2, section 5: what a backend service looks for."""
        shared = (
            "issuer",
            "jwks_uri",
            "token_endpoint",
            "grant_types_supported",
            "token_endpoint_auth_methods_supported",
            "token_endpoint_auth_signing_alg_values_supported",
            "scopes_supported",
        )
        metadata = self.metadata
        return {
            **{name: metadata[name] for name in shared},
            "capabilities": ["client-confidential-asymmetric"],
            "code_challenge_methods_supported": ["S256"],
        }

    @property
    def keys(self) -> dict[str, Any]:
        return {"keys": [{**self._key.as_dict(private=False), "use": "sig", "alg": "ES256"}]}

    def token(self, client_id: str, secret: str) -> str | None:
        """A token for the client's subject, None for an unknown client or a wrong secret."""
        if not SUBJECT.fullmatch(client_id):
            return None
        file = secret_file(self._home, self._organization.name, client_id)
        known = file.read_text() if file.exists() else secrets.token_urlsafe(32)
        is_known = secrets.compare_digest(known.encode(), secret.encode())
        return self._sign(client_id, TOKEN_SECONDS) if is_known else None

    def backend_token(self, assertion: str) -> str:
        """A token for the client that signed the assertion. Raises AssertionRefused."""
        client_id = client_of(assertion)
        self._assertions.check(assertion, client_id, registered_keys(self._home, self._organization.name, client_id))
        return self._sign(client_id, BACKEND_TOKEN_SECONDS)

    def _sign(self, subject: str, seconds: int) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": audience(self._organization.msp_id),
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid, "typ": "at+jwt"}, claims, self._key)


def create_app(issuers: dict[str, Issuer], join: Callable[[str], Issuer | None] = lambda _: None) -> FastAPI:
    """`join` looks for a hospital that has come since."""
    app = FastAPI(title="Token issuer for development", docs_url=None, redoc_url=None, openapi_url=None)

    def issuer_of(organization: str) -> Issuer:
        if organization not in issuers:
            joined = join(organization)
            if joined is None:
                raise HTTPException(404)
            issuers[organization] = joined
        return issuers[organization]

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/{organization}/.well-known/openid-configuration")
    async def metadata(organization: str) -> dict[str, Any]:
        return issuer_of(organization).metadata

    @app.get("/{organization}/jwks.json")
    async def keys(organization: str) -> dict[str, Any]:
        return issuer_of(organization).keys

    @app.get("/{organization}/.well-known/smart-configuration")
    async def smart_configuration(organization: str) -> dict[str, Any]:
        return issuer_of(organization).smart_configuration

    @app.post("/{organization}/token")
    async def token(organization: str, request: Request) -> Response:
        issuer = issuer_of(organization)
        form = await _form(request)
        if form.get("grant_type") != "client_credentials":
            return _error("unsupported_grant_type")
        if "client_assertion_type" in form or "client_assertion" in form:
            return _by_assertion(issuer, form)
        return _by_secret(issuer, form, request.headers.get("Authorization"))

    return app


async def _form(request: Request) -> dict[str, str]:
    """Raises HTTPException for one that is too large."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_FORM_BYTES:
            raise HTTPException(413)
    return dict(parse_qsl(content.decode("ascii", "replace")))


def _by_secret(issuer: Issuer, form: dict[str, str], authorization: str | None) -> Response:
    credentials = _basic(authorization) or (form.get("client_id", ""), form.get("client_secret", ""))
    signed = issuer.token(*credentials)
    if signed is None:
        return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
    return _answer(signed, TOKEN_SECONDS)


def _by_assertion(issuer: Issuer, form: dict[str, str]) -> Response:
    scopes = form.get("scope", " ".join(SCOPES)).split()
    if not set(scopes) <= set(SCOPES):
        return _error("invalid_scope")
    if form.get("client_assertion_type") != ASSERTION_TYPE or "client_secret" in form:
        return _error("invalid_client")
    try:
        signed = issuer.backend_token(form.get("client_assertion", ""))
    except AssertionRefused:
        return _error("invalid_client")
    return _answer(signed, BACKEND_TOKEN_SECONDS, scope=" ".join(scopes))


def _answer(token: str, seconds: int, **more: str) -> Response:
    answer = {"access_token": token, "token_type": "Bearer", "expires_in": seconds, **more}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _error(error: str) -> Response:
    return JSONResponse({"error": error}, 400, {"Cache-Control": "no-store"})


def _basic(authorization: str | None) -> tuple[str, str] | None:
    if authorization is None or not authorization.lower().startswith("basic "):
        return None
    try:
        name, _, secret = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret


def main() -> None:
    home, host = Home(Path(sys.argv[1])), (sys.argv[2] if len(sys.argv) > 2 else HOST)
    topology = load(home.topology)
    ports = Ports.plan(home.ports, topology)
    issuers = {one.name: Issuer(home, one, issuer_url(ports, one.name)) for one in topology.organizations}

    def join(name: str) -> Issuer | None:
        found = next((one for one in load(home.topology).organizations if one.name == name), None)
        return None if found is None else Issuer(home, found, issuer_url(ports, name))

    uvicorn.run(create_app(issuers, join), host=host, port=ports["issuer"], log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

"""A token issuer for development: OpenID Connect discovery, keys, the client-credentials grant; one per hospital.

`python -m emr_deploy.issuer EMR_HOME` serves `http://127.0.0.1:PORT/{hospital}`. Whoever holds a client's secret, a
file in `secrets/{hospital}/clients/` named after the token's subject, gets a token for that subject. Production uses a
real issuer: the services know it only by its URL, its audience and its published keys.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import sys
import time
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

from emr_deploy.clients import SUBJECT, audience, issuer_url, secret_file

TOKEN_SECONDS = 12 * 3600


class Issuer:
    """One hospital's issuer: its signing key, and which clients it knows."""

    def __init__(self, home: Home, organization: Organization, url: str) -> None:
        self._home = home
        self._organization = organization
        self.url = url
        pem = home.secret(organization.name, "issuer.key").read_bytes()
        self._key = ECKey.import_key(pem)
        self._key.ensure_kid()

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks.json",
            "token_endpoint": f"{self.url}/token",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "subject_types_supported": ["public"],
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
        return self._sign(client_id) if secrets.compare_digest(known.encode(), secret.encode()) else None

    def _sign(self, subject: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": subject,
            "aud": audience(self._organization.msp_id),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid, "typ": "at+jwt"}, claims, self._key)


def create_app(issuers: dict[str, Issuer]) -> FastAPI:
    app = FastAPI(title="Token issuer for development", docs_url=None, redoc_url=None, openapi_url=None)

    def issuer_of(organization: str) -> Issuer:
        if organization not in issuers:
            raise HTTPException(404)
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

    @app.post("/{organization}/token")
    async def token(organization: str, request: Request) -> Response:
        issuer = issuer_of(organization)
        form = dict(parse_qsl((await request.body()).decode("ascii", "replace")))
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        credentials = _basic(request.headers.get("Authorization")) or (
            form.get("client_id", ""),
            form.get("client_secret", ""),
        )
        signed = issuer.token(*credentials)
        if signed is None:
            return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
        answer = {"access_token": signed, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    return app


def _basic(authorization: str | None) -> tuple[str, str] | None:
    if authorization is None or not authorization.lower().startswith("basic "):
        return None
    try:
        name, _, secret = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, secret


def main() -> None:
    home = Home(Path(sys.argv[1]))
    topology = load(home.topology)
    ports = Ports.plan(home.ports, topology)
    issuers = {one.name: Issuer(home, one, issuer_url(ports, one.name)) for one in topology.organizations}
    uvicorn.run(create_app(issuers), host=HOST, port=ports["issuer"], log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

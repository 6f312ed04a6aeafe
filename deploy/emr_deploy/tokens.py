"""Tokens from the development issuer, for people at a keyboard, the story and the tests."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import httpx
from emr_network.home import Home
from emr_network.ports import Ports
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from emr_deploy.assertions import ASSERTION_TYPE, sign_assertion
from emr_deploy.clients import client_secret, issuer_url


class TokenRefused(Exception):
    """The issuer does not answer, or gives no token."""


async def token_for(home: Home, ports: Ports, organization: str, subject: str) -> str:
    """A bearer token for `subject` at a hospital, by the client credentials kept for it. Raises TokenRefused."""
    secret = client_secret(home, organization, subject)
    return await _requested(ports, organization, {"client_id": subject, "client_secret": secret})


async def token_by_key(ports: Ports, organization: str, subject: str, key: Path) -> str:
    """A bearer token for a backend service, by an assertion signed with its key: a JWK, or a PEM whose kid is the
    thumbprint. Raises TokenRefused, or ValueError for what is no such key.
    """
    endpoint = f"{issuer_url(ports, organization)}/token"
    form = {
        "scope": "system/*.rs",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign_assertion(_read_key(key), subject, endpoint),
    }
    return await _requested(ports, organization, form)


def _read_key(path: Path) -> ECKey | RSAKey:
    text = path.read_text()
    kinds: tuple[type[ECKey], type[RSAKey]] = (ECKey, RSAKey)
    for kind in kinds:
        with suppress(JoseError, ValueError, TypeError):
            key = kind.import_key(json.loads(text) if text.lstrip().startswith("{") else text)
            key.ensure_kid()
            return key
    raise ValueError("neither a JWK nor a PEM of an EC or RSA key")


async def _requested(ports: Ports, organization: str, form: dict[str, str]) -> str:
    form = {"grant_type": "client_credentials", **form}
    try:
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as http:
            answer = await http.post(f"{issuer_url(ports, organization)}/token", data=form)
            answer.raise_for_status()
            token: str = answer.json()["access_token"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise TokenRefused(f"the issuer gives no token: {str(error).partition(chr(10))[0]}") from error
    return token

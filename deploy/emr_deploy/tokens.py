"""Tokens from the development issuer, for people at a keyboard, the story and the tests."""

from __future__ import annotations

import httpx
from emr_network.home import Home
from emr_network.ports import Ports

from emr_deploy.clients import client_secret, issuer_url


class TokenRefused(Exception):
    """The issuer does not answer, or gives no token."""


async def token_for(home: Home, ports: Ports, organization: str, subject: str) -> str:
    """A bearer token for `subject` at a hospital, by the client credentials kept for it. Raises TokenRefused."""
    secret = client_secret(home, organization, subject)
    form = {"grant_type": "client_credentials", "client_id": subject, "client_secret": secret}
    try:
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as http:
            answer = await http.post(f"{issuer_url(ports, organization)}/token", data=form)
            answer.raise_for_status()
            token: str = answer.json()["access_token"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise TokenRefused(f"the issuer gives no token: {error}") from error
    return token

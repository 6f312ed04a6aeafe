"""The development issuer gives tokens that the services' verifier accepts, to clients with the right secret only."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from emr_common.issuer_keys import PublishedKeys
from emr_common.problems import Problem
from emr_common.tokens import TokenVerifier
from emr_deploy.clients import audience, client_secret, issuer_url
from emr_deploy.issuer import Issuer, create_app
from emr_deploy.secrets import make_secrets
from emr_network.home import TOPOLOGY, Home
from emr_network.ports import Ports
from emr_network.topology import load


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    make_secrets(home, load(TOPOLOGY))
    return home


@pytest.fixture(name="ports")
def _ports(tmp_path: Path) -> Ports:
    return Ports.plan(tmp_path / "ports.json", load(TOPOLOGY))


@pytest_asyncio.fixture(name="http")
async def _http(home: Home, ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    issuers = {one.name: Issuer(home, one, issuer_url(ports, one.name)) for one in load(TOPOLOGY).organizations}
    transport = httpx.ASGITransport(create_app(issuers))
    async with httpx.AsyncClient(transport=transport, base_url="http://issuer") as client:
        yield client


def _form(home: Home, subject: str = "nurse", **changes: str) -> dict[str, str]:
    secret = client_secret(home, "a", subject)
    return {"grant_type": "client_credentials", "client_id": subject, "client_secret": secret, **changes}


async def test_its_tokens_pass_the_services_verifier(http: httpx.AsyncClient, home: Home, ports: Ports) -> None:
    metadata = (await http.get("/a/.well-known/openid-configuration")).json()
    answer = (await http.post("/a/token", data=_form(home))).json()
    keys = PublishedKeys("/a/jwks.json", http)
    claims = await TokenVerifier(metadata["issuer"], audience("HospitalA"), keys).verify(answer["access_token"])
    assert (claims.issuer, claims.subject) == (issuer_url(ports, "a"), "nurse")


async def test_another_hospital_refuses_them(http: httpx.AsyncClient, home: Home, ports: Ports) -> None:
    token = (await http.post("/a/token", data=_form(home))).json()["access_token"]
    verifier = TokenVerifier(issuer_url(ports, "b"), audience("HospitalB"), PublishedKeys("/b/jwks.json", http))
    with pytest.raises(Problem):
        await verifier.verify(token)


async def test_a_client_may_also_use_basic_authentication(http: httpx.AsyncClient, home: Home) -> None:
    secret = client_secret(home, "a", "nurse")
    credentials = base64.b64encode(f"nurse:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}"}
    answer = await http.post("/a/token", data={"grant_type": "client_credentials"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody-known"}, 401, "invalid_client"),
        ({"client_id": "../wallet.keyset"}, 401, "invalid_client"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_it_refuses(
    http: httpx.AsyncClient, home: Home, changes: dict[str, str], status: int, error: str
) -> None:
    answer = await http.post("/a/token", data=_form(home, **changes))
    assert (answer.status_code, answer.json()) == (status, {"error": error})


async def test_a_secret_of_one_hospital_is_none_at_the_other(http: httpx.AsyncClient, home: Home) -> None:
    assert (await http.post("/b/token", data=_form(home))).status_code == 401


async def test_published_keys_hold_no_private_part(http: httpx.AsyncClient) -> None:
    keys = (await http.get("/a/jwks.json")).json()["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "y", "kid", "use", "alg"}]


async def test_an_unknown_hospital_has_no_issuer(http: httpx.AsyncClient) -> None:
    assert (await http.get("/c/jwks.json")).status_code == 404


@pytest.mark.parametrize("subject", ["../admin", "", "Admin", "a/b", "x" * 65])
def test_an_odd_subject_never_becomes_a_file(home: Home, subject: str) -> None:
    with pytest.raises(ValueError, match="a subject is"):
        client_secret(home, "a", subject)

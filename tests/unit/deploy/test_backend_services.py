"""SMART Backend Services at the development issuer: which client assertions are good for a token, and which are not."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from emr_common.issuer_keys import PublishedKeys
from emr_common.tokens import TokenVerifier
from emr_deploy.assertions import ASSERTION_TYPE, sign_assertion
from emr_deploy.clients import audience, issuer_url, new_client_key, register_keys
from emr_deploy.issuer import Issuer, create_app
from emr_deploy.secrets import make_secrets
from emr_network.home import TOPOLOGY, Home
from emr_network.ports import Ports
from emr_network.topology import load
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

EC = ECKey.generate_key("P-384", {"kid": "ec", "use": "sig"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
P256 = ECKey.generate_key("P-256", {"kid": "p256", "use": "sig"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec", "use": "sig"})
CLIENT, OTHER_CLIENT = "lab.system", "other-system"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"))
    make_secrets(made, load(TOPOLOGY))
    for client in (CLIENT, OTHER_CLIENT):
        register_keys(made, "a", client, json.dumps(KeySet([EC, RSA, P256]).as_dict(private=False)))
    return made


@pytest.fixture(scope="module")
def ports(home: Home) -> Ports:
    return Ports.plan(home.ports, load(TOPOLOGY), free=True)


def served(home: Home, ports: Ports) -> httpx.AsyncClient:
    issuers = {one.name: Issuer(home, one, issuer_url(ports, one.name)) for one in load(TOPOLOGY).organizations}
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(issuers)), base_url="http://issuer")


@pytest_asyncio.fixture(name="http")
async def _http(home: Home, ports: Ports) -> AsyncIterator[httpx.AsyncClient]:
    async with served(home, ports) as client:
        yield client


class Asking:
    """What a client sends, as it should be unless something is changed."""

    def __init__(self, ports: Ports) -> None:
        self.endpoint = f"{issuer_url(ports, 'a')}/token"
        self.other_endpoint = f"{issuer_url(ports, 'b')}/token"

    def form(self, assertion: str, **changes: str) -> dict[str, str]:
        return {
            "grant_type": "client_credentials",
            "scope": "system/*.rs",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            **changes,
        }

    def assertion(self, key: ECKey | RSAKey = EC, **changed: Any) -> str:
        return sign_assertion(key, CLIENT, self.endpoint, **changed)

    def with_header(self, key: Any, header: dict[str, Any]) -> str:
        now = int(time.time())
        claims = {"iss": CLIENT, "sub": CLIENT, "aud": self.endpoint, "exp": now + 60, "jti": f"j{time.time_ns()}"}
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])


@pytest.fixture(name="asking")
def _asking(ports: Ports) -> Asking:
    return Asking(ports)


@pytest.mark.parametrize("key", [EC, RSA], ids=["ES384", "RS384"])
async def test_a_signed_assertion_is_good_for_a_short_token(
    http: httpx.AsyncClient, ports: Ports, asking: Asking, key: Any
) -> None:
    answer = (await http.post("/a/token", data=asking.form(asking.assertion(key)))).json()
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 300, "system/*.rs")
    verifier = TokenVerifier(issuer_url(ports, "a"), audience("HospitalA"), PublishedKeys("/a/jwks.json", http))
    assert (await verifier.verify(answer["access_token"])).subject == CLIENT


async def test_a_key_made_here_is_registered_at_once(http: httpx.AsyncClient, home: Home, asking: Asking) -> None:
    key = ECKey.import_key(json.loads(new_client_key(home, "a", "made-here").read_text()))
    assertion = sign_assertion(key, "made-here", asking.endpoint)
    assert (await http.post("/a/token", data=asking.form(assertion))).status_code == 200


async def test_an_assertion_counts_once(http: httpx.AsyncClient, asking: Asking) -> None:
    form = asking.form(asking.assertion())
    answers = [(await http.post("/a/token", data=form)).status_code for _ in range(3)]
    assert answers == [200, 400, 400]


async def test_an_assertion_counts_once_also_when_the_issuer_was_killed(
    home: Home, ports: Ports, asking: Asking, tmp_path: Path
) -> None:
    shutil.copy(TOPOLOGY, home.topology)
    form = asking.form(asking.assertion())
    async with issuer_process(home, ports, tmp_path) as first:
        assert (await first.post("/a/token", data=form)).status_code == 200
        assert (await first.post("/a/token", data=form)).status_code == 400
    async with issuer_process(home, ports, tmp_path) as again:
        assert (await again.post("/a/token", data=form)).status_code == 400
        assert (await again.post("/a/token", data=asking.form(asking.assertion()))).status_code == 200


@asynccontextmanager
async def issuer_process(home: Home, ports: Ports, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """As the supervisor starts it; ended by kill -9."""
    with (folder / "issuer.log").open("ab") as log:
        command = [sys.executable, "-m", "emr_deploy.issuer", str(home.root)]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://{ports.address('issuer')}") as client:
            while not await answers(client):
                assert process.returncode is None, (folder / "issuer.log").read_text()
                await asyncio.sleep(0.05)
            yield client
    finally:
        process.kill()
        await process.wait()


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_two_clients_may_happen_upon_one_jti(http: httpx.AsyncClient, asking: Asking) -> None:
    forms = [asking.form(sign_assertion(EC, one, asking.endpoint, jti="the-same")) for one in (CLIENT, OTHER_CLIENT)]
    assert [(await http.post("/a/token", data=form)).status_code for form in forms] == [200, 200]


def later(seconds: float) -> int:
    return int(time.time() + seconds)


REFUSED: dict[str, Callable[[Asking], str]] = {
    "another key under the same kid": lambda ask: ask.assertion(STRANGER),
    "of an algorithm that SMART does not know": lambda ask: ask.with_header(P256, {"alg": "ES256", "kid": "p256"}),
    "a shared secret": lambda ask: ask.with_header(OctKey.import_key("x" * 32), {"alg": "HS256", "kid": "ec"}),
    "without a kid": lambda ask: ask.with_header(EC, {"alg": "ES384"}),
    "of a kid that is not registered": lambda ask: ask.with_header(EC, {"alg": "ES384", "kid": "new"}),
    "that says where its keys are": lambda ask: ask.with_header(
        EC, {"alg": "ES384", "kid": "ec", "jku": "https://evil.example/jwks"}
    ),
    "of an unknown client": lambda ask: ask.assertion(iss="nobody", sub="nobody"),
    "of a client whose name is a path": lambda ask: ask.assertion(iss="../clients/admin", sub="../clients/admin"),
    "of one client for another": lambda ask: ask.assertion(iss=OTHER_CLIENT),
    "of no subject": lambda ask: ask.assertion(sub=None),
    "for another hospital's issuer": lambda ask: ask.assertion(aud=ask.other_endpoint),
    "for the issuer and not its token endpoint": lambda ask: ask.assertion(aud=ask.endpoint.removesuffix("/token")),
    "expired": lambda ask: ask.assertion(exp=later(-60)),
    "that lasts too long": lambda ask: ask.assertion(exp=later(400)),
    "that lasts for ever": lambda ask: ask.assertion(exp=float("inf")),
    "without an expiry": lambda ask: ask.assertion(exp=None),
    "that is not yet valid": lambda ask: ask.assertion(nbf=later(120)),
    "without a jti": lambda ask: ask.assertion(jti=None),
    "with a jti that is no text": lambda ask: ask.assertion(jti=["a"]),
    "with a huge jti": lambda ask: ask.assertion(jti="x" * 300),
    "that is huge": lambda ask: ask.assertion(more="x" * 9000),
    "that is no token": lambda _: "not.a.token",
    "that is empty": lambda _: "",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_no_token_for_an_assertion(http: httpx.AsyncClient, asking: Asking, name: str) -> None:
    answer = await http.post("/a/token", data=asking.form(REFUSED[name](asking)))
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_client"})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, "invalid_client"),
        ({"client_secret": "and a secret"}, "invalid_client"),
        ({"scope": "system/*.cruds"}, "invalid_scope"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
    ],
)
async def test_no_token_for_a_request(
    http: httpx.AsyncClient, asking: Asking, changes: dict[str, str], error: str
) -> None:
    answer = await http.post("/a/token", data=asking.form(asking.assertion(), **changes))
    assert (answer.status_code, answer.json()) == (400, {"error": error})


async def test_a_form_without_end_is_not_read(http: httpx.AsyncClient, asking: Asking) -> None:
    assert (await http.post("/a/token", data=asking.form("x" * 40_000))).status_code == 413


async def test_the_issuer_says_how_backend_services_get_tokens(http: httpx.AsyncClient, asking: Asking) -> None:
    found = (await http.get("/a/.well-known/smart-configuration")).json()
    assert found["token_endpoint"] == asking.endpoint
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert set(found["token_endpoint_auth_signing_alg_values_supported"]) == {"RS384", "ES384"}
    assert "client-confidential-asymmetric" in found["capabilities"]


@pytest.mark.parametrize("jwks", ['{"keys":[]}', "[]", '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', "{}"])
def test_keys_that_could_not_verify_are_not_registered(tmp_path: Path, jwks: str) -> None:
    with pytest.raises(ValueError):
        register_keys(Home(tmp_path), "a", CLIENT, jwks)

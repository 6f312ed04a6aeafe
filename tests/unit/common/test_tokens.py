from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from emr_common import issuer_keys, tokens
from emr_common.issuer_keys import PublishedKeys
from emr_common.problems import Problem
from emr_common.tokens import Claims, TokenVerifier
from emr_model.ledger.codes import Code
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "https://issuer.example/a"
AUDIENCE = "urn:careledger:HospitalA"
JWKS_URL = f"{ISSUER}/jwks.json"

RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
P384 = ECKey.generate_key("P-384", {"kid": "p384"})
P521 = ECKey.generate_key("P-521", {"kid": "p521"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
ED448 = OKPKey.generate_key("Ed448", {"kid": "ed448"})
KOBLITZ = ECKey.generate_key("secp256k1", {"kid": "koblitz"})
AGREEMENT = OKPKey.generate_key("X25519", {"kid": "agreement"})
FOR_ENCRYPTION = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
FOR_SIGNING_ONLY = RSAKey.generate_key(2048, {"kid": "ops", "key_ops": ["sign"]})
FOR_RS256 = RSAKey.generate_key(2048, {"kid": "rs256", "alg": "RS256"})
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SMALL = RSAKey.generate_key(1024, {"kid": "small"})
STRANGER = RSAKey.generate_key(2048, {"kid": "stranger"})
PUBLISHED = (
    *(RSA, EC, P384, P521, ED, ED448),
    *(SMALL, KOBLITZ, AGREEMENT, FOR_ENCRYPTION, FOR_SIGNING_ONLY, FOR_RS256),
)


class Issuer:
    """The edge of the process: an HTTP transport that serves a JWKS, counts requests, and can be down."""

    def __init__(self, *keys: RSAKey | ECKey | OKPKey) -> None:
        self.keys = list(keys)
        self.requests = 0
        self.is_down = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        assert str(request.url) == JWKS_URL
        if self.is_down:
            raise httpx.ConnectError("down")
        return httpx.Response(200, json=KeySet(list(self.keys)).as_dict(private=False))

    def verifier(self) -> TokenVerifier:
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return TokenVerifier(ISSUER, AUDIENCE, PublishedKeys(JWKS_URL, client))


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(*PUBLISHED)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s-1", "iat": now, "exp": now + 300} | changed
    return {name: value for name, value in given.items() if value is not None}


def signed(key: Any, algorithm: str, header: dict[str, Any] | None = None, **changed: Any) -> str:
    """Signs whatever it is told, also what a library would refuse to."""
    given = {"alg": algorithm, "kid": key.kid} | (header or {})
    protected = _part({name: value for name, value in given.items() if value is not None})
    message = f"{protected}.{_part(claims(**changed))}"
    return f"{message}.{_base64(JWSRegistry.algorithms[algorithm].sign(message.encode(), key))}"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA, algorithm) for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        *((EC, "ES256"), (P384, "ES384"), (P521, "ES512"), (FOR_RS256, "RS256")),
        *((ED, "Ed25519"), (ED, "EdDSA"), (ED448, "Ed448"), (ED448, "EdDSA")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_good_token_names_its_subject(issuer: Issuer, key: Any, algorithm: str) -> None:
    assert await issuer.verifier().verify(signed(key, algorithm)) == Claims(ISSUER, "s-1")


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt"])
async def test_a_token_may_say_that_it_is_for_access(issuer: Issuer, kind: str) -> None:
    assert (await issuer.verifier().verify(signed(EC, "ES256", {"typ": kind}))).subject == "s-1"


async def test_the_audience_may_stand_among_others(issuer: Issuer) -> None:
    token = signed(RSA, "RS256", aud=["urn:other", AUDIENCE])
    assert (await issuer.verifier().verify(token)).subject == "s-1"


def unsigned(header: dict[str, Any]) -> str:
    return f"{_part(header)}.{_part(claims())}."


def _part(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def confused() -> str:
    """The public key, which everyone has, taken as the secret of an HMAC."""
    message = f"{_part({'alg': 'HS256', 'kid': 'rsa'})}.{_part(claims())}"
    return f"{message}.{_base64(hmac.digest(RSA.as_pem(private=False), message.encode(), 'sha256'))}"


def tampered() -> str:
    header, _, signature = signed(RSA, "RS256").split(".")
    return f"{header}.{_part(claims(sub='s-2'))}.{signature}"


def now(offset: float) -> int:
    return int(time.time() + offset)


REFUSED: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned({"alg": "none", "kid": "rsa"}),
    "alg None in another case": lambda: unsigned({"alg": "nOnE", "kid": "rsa"}),
    "no alg": lambda: unsigned({"kid": "rsa"}),
    "HMAC with the public key": confused,
    "HMAC": lambda: signed(OctKey.import_key("x" * 32, {"kid": "rsa"}), "HS256", {"kid": "rsa"}),
    "another key under the same kid": lambda: signed(STRANGER, "RS256", {"kid": "rsa"}),
    "a kid that is not published": lambda: signed(STRANGER, "RS256"),
    "no kid": lambda: signed(RSA, "RS256", {"kid": None}),
    "a kid that is no text": lambda: unsigned({"alg": "RS256", "kid": 7}),
    "a key in the header": lambda: signed(STRANGER, "RS256", {"jwk": STRANGER.as_dict(private=False)}),
    "a key's address in the header": lambda: signed(STRANGER, "RS256", {"jku": "https://evil.example/jwks"}),
    "an algorithm of another key type": lambda: signed(EC, "ES256", {"kid": "rsa"}),
    "an RSA key of 1024 bits": lambda: signed(SMALL, "RS256"),
    "unknown crit": lambda: signed(RSA, "RS256", {"crit": ["b65"], "b65": True}),
    "crit that names nothing": lambda: signed(RSA, "RS256", {"crit": ["exp"]}),
    "crit that is not applied": lambda: signed(RSA, "RS256", {"crit": ["b64"], "b64": False}),
    "crit that changes nothing": lambda: signed(RSA, "RS256", {"crit": ["b64"], "b64": True}),
    "crit without a name": lambda: signed(RSA, "RS256", {"crit": []}),
    "crit that is no list": lambda: signed(RSA, "RS256", {"crit": "kid"}),
    "an elliptic key's algorithm on another curve": lambda: signed(P384, "ES256", {"kid": "p384"}),
    "a curve of coins": lambda: signed(KOBLITZ, "ES256K"),
    "a key for agreement": lambda: signed(ED, "EdDSA", {"kid": "agreement"}),
    "a key for encryption": lambda: signed(FOR_ENCRYPTION, "RS256"),
    "a key that is not for verifying": lambda: signed(FOR_SIGNING_ONLY, "RS256"),
    "another algorithm than the key is published for": lambda: signed(FOR_RS256, "PS256"),
    "a token that ends a session": lambda: signed(RSA, "RS256", {"typ": "logout+jwt"}),
    "a proof of possession": lambda: signed(EC, "ES256", {"typ": "dpop+jwt"}),
    "a certificate in the header": lambda: signed(STRANGER, "RS256", {"x5c": ["AAAA"], "kid": "rsa"}),
    "a kid that is a path": lambda: signed(STRANGER, "RS256", {"kid": "../../rsa"}),
    "encrypted": lambda: f"{_part({'alg': 'dir', 'enc': 'A256GCM', 'kid': 'rsa'})}..AAAA.AAAA.AAAA",
    "deeply nested": lambda: f"{_base64(b'[' * 5000)}.{_part(claims())}.AAAA",
    "an expiry without end": lambda: signed(RSA, "RS256", exp=float("inf")),
    "an expiry that is a truth": lambda: signed(RSA, "RS256", exp=True),
    "tampered payload": tampered,
    "expired": lambda: signed(RSA, "RS256", exp=now(-60)),
    "no expiry": lambda: signed(RSA, "RS256", exp=None),
    "expiry that is text": lambda: signed(RSA, "RS256", exp="9999999999"),
    "not yet valid": lambda: signed(RSA, "RS256", nbf=now(120)),
    "issued in the future": lambda: signed(RSA, "RS256", iat=now(120)),
    "another issuer": lambda: signed(RSA, "RS256", iss="https://issuer.example/b"),
    "no issuer": lambda: signed(RSA, "RS256", iss=None),
    "another audience": lambda: signed(RSA, "RS256", aud="urn:careledger:HospitalB"),
    "no audience": lambda: signed(RSA, "RS256", aud=None),
    "an audience that contains ours": lambda: signed(RSA, "RS256", aud=f"{AUDIENCE}2"),
    "no subject": lambda: signed(RSA, "RS256", sub=None),
    "an empty subject": lambda: signed(RSA, "RS256", sub=""),
    "a subject that is no text": lambda: signed(RSA, "RS256", sub=["s-1"]),
    "a subject with a character that Postgres does not keep": lambda: signed(RSA, "RS256", sub="s\0-1"),
    "a subject with half a character": lambda: signed(RSA, "RS256", sub="\ud800"),
    "a subject without end": lambda: signed(RSA, "RS256", sub="s" * 256),
    "not a token": lambda: "not-a-token",
    "empty parts": lambda: "..",
    "five parts": lambda: "a.b.c.d.e",
    "not ASCII": lambda: "é.é.é",
    "a payload that is no object": lambda: f"{_part({'alg': 'RS256', 'kid': 'rsa'})}.{_part([1])}.AAAA",
    "a header that is no object": lambda: f"{_part([1])}.{_part(claims())}.AAAA",
    "a header that is no JSON": lambda: f"AAAA.{_part(claims())}.AAAA",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_token_is_refused_that_is(issuer: Issuer, name: str) -> None:
    with pytest.raises(Problem) as refusal:
        await issuer.verifier().verify(REFUSED[name]())
    assert refusal.value.code is Code.TOKEN_INVALID
    assert refusal.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert refusal.value.__cause__ is None


async def test_a_rotated_key_is_fetched_when_first_seen(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "REFETCH_AFTER_SECONDS", 0.0)
    verifier = issuer.verifier()
    await verifier.verify(signed(RSA, "RS256"))
    issuer.keys = [STRANGER]
    assert (await verifier.verify(signed(STRANGER, "RS256"))).subject == "s-1"
    with pytest.raises(Problem):
        await verifier.verify(signed(RSA, "RS256"))


@pytest.mark.parametrize("published", ["nothing of that id", "another key of that id"])
async def test_a_token_seen_before_is_refused_once_its_key_is_gone(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, published: str
) -> None:
    verifier, token = issuer.verifier(), signed(RSA, "RS256")
    for _ in range(2):
        assert (await verifier.verify(token)).subject == "s-1"
    issuer.keys = [EC] if published == "nothing of that id" else [RSAKey.generate_key(2048, {"kid": "rsa"})]
    for name in ("KEYS_STAY_FRESH_SECONDS", "REFETCH_AFTER_SECONDS"):
        monkeypatch.setattr(issuer_keys, name, 0.0)
    with pytest.raises(Problem) as refusal:
        await verifier.verify(token)
    assert refusal.value.code is Code.TOKEN_INVALID


async def test_a_token_seen_before_is_refused_once_it_has_expired(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, token = issuer.verifier(), signed(RSA, "RS256")
    for _ in range(2):
        assert (await verifier.verify(token)).subject == "s-1"
    later = time.time() + 300 + tokens.LEEWAY_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Problem) as refusal:
        await verifier.verify(token)
    assert refusal.value.code is Code.TOKEN_INVALID


async def test_no_more_than_so_many_tokens_are_remembered(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_KNOWN", 2)
    verifier, given = issuer.verifier(), [signed(EC, "ES256", sub=f"s-{number}") for number in range(4)]
    for _ in range(2):
        assert [(await verifier.verify(one)).subject for one in given] == ["s-0", "s-1", "s-2", "s-3"]
    assert len(verifier._known) == 2


async def test_forged_key_ids_do_not_make_us_ask_the_issuer_each_time(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    for _ in range(20):
        with pytest.raises(Problem):
            await verifier.verify(signed(STRANGER, "RS256"))
    assert issuer.requests == 1


async def test_keys_at_hand_outlive_an_issuer_that_is_down(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_keys, "KEYS_STAY_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(issuer_keys, "REFETCH_AFTER_SECONDS", 0.0)
    verifier = issuer.verifier()
    await verifier.verify(signed(RSA, "RS256"))
    issuer.is_down = True
    assert (await verifier.verify(signed(RSA, "RS256"))).subject == "s-1"


async def test_without_any_keys_the_answer_is_unavailable_and_not_refused(issuer: Issuer) -> None:
    issuer.is_down = True
    with pytest.raises(Problem) as refusal:
        await issuer.verifier().verify(signed(RSA, "RS256"))
    assert refusal.value.code is Code.ISSUER_UNAVAILABLE


async def test_a_key_set_with_symmetric_keys_makes_no_hmac_token_good() -> None:
    secret = OctKey.import_key("s" * 32, {"kid": "oct"})

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": [secret.as_dict(private=True), RSA.as_dict(private=False)]})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    verifier = TokenVerifier(ISSUER, AUDIENCE, PublishedKeys(JWKS_URL, client))
    with pytest.raises(Problem) as refusal:
        await verifier.verify(signed(secret, "HS256"))
    assert refusal.value.code is Code.TOKEN_INVALID


METADATA_URL = f"{ISSUER}/.well-known/openid-configuration"
KEYS = KeySet([RSA]).as_dict(private=False)


def served(documents: dict[str, Any]) -> tuple[TokenVerifier, list[str]]:
    """A verifier that was told the issuer alone, and the URLs that it asked for."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        found = documents.get(str(request.url))
        if isinstance(found, httpx.Response):
            return found
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return TokenVerifier(ISSUER, AUDIENCE, PublishedKeys(None, client, issuer=ISSUER)), asked


async def test_keys_are_found_by_what_the_issuer_says_of_itself() -> None:
    elsewhere = "https://keys.example/of-a"
    verifier, asked = served({METADATA_URL: {"issuer": ISSUER, "jwks_uri": elsewhere}, elsewhere: KEYS})
    assert (await verifier.verify(signed(RSA, "RS256"))).subject == "s-1"
    assert asked == [METADATA_URL, elsewhere]


MOVED = httpx.Response(302, headers={"location": JWKS_URL})
WRONG_METADATA: dict[str, Any] = {
    "of another issuer": {"issuer": "https://issuer.example/b", "jwks_uri": JWKS_URL},
    "of an issuer that is almost the same": {"issuer": f"{ISSUER}/", "jwks_uri": JWKS_URL},
    "without keys": {"issuer": ISSUER},
    "with keys over an open line": {"issuer": ISSUER, "jwks_uri": JWKS_URL.replace("https", "http")},
    "with keys in a file": {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
    "with keys at no place": {"issuer": ISSUER, "jwks_uri": "https://["},
    "that is a list": [],
    "that is somewhere else": MOVED,
    "that is missing": None,
}


@pytest.mark.parametrize("name", WRONG_METADATA)
async def test_metadata_does_not_count(name: str) -> None:
    verifier, _ = served({METADATA_URL: WRONG_METADATA[name], JWKS_URL: KEYS, JWKS_URL.replace("https", "http"): KEYS})
    with pytest.raises(Problem) as refusal:
        await verifier.verify(signed(RSA, "RS256"))
    assert refusal.value.code is Code.ISSUER_UNAVAILABLE


WRONG_KEYS: dict[str, httpx.Response] = {
    "are too many": httpx.Response(200, content=b'{"keys":[' + b'{"kty":"oct","k":"AAAA"},' * 30_000 + b"{}]}"),
    "are nested without end": httpx.Response(200, content=b'{"keys":' + b"[" * 100_000),
    "are no JSON": httpx.Response(200, content=b"<html>"),
    "are no list": httpx.Response(200, json={"keys": {}}),
    "are refused": httpx.Response(500),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
async def test_published_keys_do_not_count_that(name: str) -> None:
    verifier, _ = served({METADATA_URL: {"issuer": ISSUER, "jwks_uri": JWKS_URL}, JWKS_URL: WRONG_KEYS[name]})
    with pytest.raises(Problem) as refusal:
        await verifier.verify(signed(RSA, "RS256"))
    assert refusal.value.code is Code.ISSUER_UNAVAILABLE


async def test_a_key_that_cannot_be_read_does_not_hide_the_others() -> None:
    odd = [{"kty": "RSA"}, {"kty": "new"}, {}, "text", {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]
    verifier, _ = served(
        {METADATA_URL: {"issuer": ISSUER, "jwks_uri": JWKS_URL}, JWKS_URL: {"keys": odd + KEYS["keys"]}}
    )
    assert (await verifier.verify(signed(RSA, "RS256"))).subject == "s-1"


async def test_keys_of_an_issuer_that_stays_away_end(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = issuer.verifier()
    await verifier.verify(signed(RSA, "RS256"))
    issuer.is_down = True
    for name in ("KEYS_STAY_FRESH_SECONDS", "REFETCH_AFTER_SECONDS", "KEYS_ARE_KEPT_SECONDS"):
        monkeypatch.setattr(issuer_keys, name, 0.0)
    with pytest.raises(Problem) as refusal:
        await verifier.verify(signed(RSA, "RS256"))
    assert refusal.value.code is Code.ISSUER_UNAVAILABLE


async def test_an_issuer_that_hangs_holds_up_one_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = asyncio.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        if hangs.is_set():
            await asyncio.Event().wait()
        return httpx.Response(200, json=KEYS)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    verifier = TokenVerifier(ISSUER, AUDIENCE, PublishedKeys(JWKS_URL, client))
    await verifier.verify(signed(RSA, "RS256"))
    hangs.set()
    monkeypatch.setattr(issuer_keys, "KEYS_STAY_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(issuer_keys, "REFETCH_AFTER_SECONDS", 0.0)
    held_up = asyncio.create_task(verifier.verify(signed(RSA, "RS256")))
    await asyncio.sleep(0)
    await asyncio.gather(*(verifier.verify(signed(RSA, "RS256")) for _ in range(20)))
    assert not held_up.done()
    held_up.cancel()
    await asyncio.wait([held_up])

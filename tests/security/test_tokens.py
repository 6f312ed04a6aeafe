"""Bearer tokens: signature, issuer, audience, times and subject are verified, by every service alike."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from emr_deploy.clients import audience, issuer_url
from emr_model.ledger.functions import Function
from hlf.errors import HlfError
from joserfc import jwt
from joserfc.jwk import ECKey
from support.ledger_access import CHAINCODE, CHANNEL, LedgerAccess
from support.sharing_steps import Cast
from support.stack import Actor, Stack

PATHS = {
    "registration": "/organizations",
    "records": f"/emrs/{'0' * 32}",
    "consent": "/sharings",
    "indexer": "/position",
}


def _claims(stack: Stack, **changes: Any) -> dict[str, Any]:
    """Of A's administrator; a claim that is changed to None is left out."""
    now = int(time.time())
    issuer = issuer_url(stack.system.ports, "a")
    claims = {"iss": issuer, "sub": "admin", "aud": audience("HospitalA"), "iat": now, "exp": now + 600}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def _issuers_key(stack: Stack, organization: str = "a") -> ECKey:
    key = ECKey.import_key(stack.home.secret(organization, "issuer.key").read_bytes())
    key.ensure_kid()
    return key


def _signed(stack: Stack, **changes: Any) -> str:
    """By the issuer's own key."""
    key = _issuers_key(stack)
    return jwt.encode({"alg": "ES256", "kid": key.kid}, _claims(stack, **changes), key)


def _signed_by(stack: Stack, key: ECKey, key_id: str | None) -> str:
    header = {"alg": "ES256"} if key_id is None else {"alg": "ES256", "kid": key_id}
    return jwt.encode(header, _claims(stack), key)


def _by_hand(stack: Stack, algorithm: str, signature: Callable[[bytes], bytes]) -> str:
    header = {"alg": algorithm, "kid": _issuers_key(stack).kid}
    signed = b".".join(_part(json.dumps(one).encode()) for one in (header, _claims(stack)))
    return b".".join((signed, _part(signature(signed)))).decode()


def _part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _by_a_shared_secret(stack: Stack) -> str:
    published = _issuers_key(stack).as_pem(private=False)
    return _by_hand(stack, "HS256", lambda signed: hmac.digest(published, signed, hashlib.sha256))


def _altered(stack: Stack) -> str:
    """Another subject under a genuine signature."""
    header, _, signature = _signed(stack).split(".")
    return ".".join((header, _part(json.dumps(_claims(stack, sub="somebody")).encode()).decode(), signature))


FORGED: dict[str, Callable[[Stack], str]] = {
    "signed by another key": lambda stack: _signed_by(stack, ECKey.generate_key("P-256"), _issuers_key(stack).kid),
    "signed by another hospital's issuer": lambda stack: _signed_by(
        stack, _issuers_key(stack, "b"), _issuers_key(stack, "b").kid
    ),
    "of an unknown key": lambda stack: _signed_by(stack, ECKey.generate_key("P-256"), "unknown"),
    "of no key": lambda stack: _signed_by(stack, _issuers_key(stack), None),
    "signed with the public key as a shared secret": _by_a_shared_secret,
    "not signed": lambda stack: _by_hand(stack, "none", lambda _: b""),
    "altered": _altered,
    "expired": lambda stack: _signed(stack, exp=int(time.time()) - 3600),
    "without an expiry": lambda stack: _signed(stack, exp=None),
    "not valid yet": lambda stack: _signed(stack, nbf=int(time.time()) + 3600),
    "for another audience": lambda stack: _signed(stack, aud=audience("HospitalB")),
    "for no audience": lambda stack: _signed(stack, aud=None),
    "of another issuer": lambda stack: _signed(stack, iss=issuer_url(stack.system.ports, "b")),
    "without a subject": lambda stack: _signed(stack, sub=None),
    "no token": lambda _: "not.a.token",
    "two parts of a token": lambda stack: _signed(stack).rpartition(".")[0],
}


async def _get(stack: Stack, service: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        return await http.get(f"{stack.url(service, 'a')}/v1{PATHS[service]}", headers=headers)


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("service", PATHS)
async def test_a_token_that_does_not_hold_is_refused(stack: Stack, service: str, name: str) -> None:
    token = FORGED[name](stack)
    answer = await _get(stack, service, {"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert token not in answer.text


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YWRtaW46eA=="])
@pytest.mark.parametrize("service", PATHS)
async def test_a_request_without_a_bearer_token_is_refused(stack: Stack, service: str, header: str | None) -> None:
    answer = await _get(stack, service, {} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")


async def test_the_tokens_that_are_forged_here_would_hold_if_they_were_not(stack: Stack) -> None:
    """The control: what `_claims` and `_signed` make is accepted where nothing is changed."""
    answer = await _get(stack, "registration", {"Authorization": f"Bearer {_signed(stack)}"})
    assert answer.status_code == 200


async def test_a_good_token_of_somebody_unknown_is_refused(stack: Stack) -> None:
    stranger = Actor("a", f"stranger-{secrets.token_hex(4)}", "physician", "")
    answer = await stack.call(stranger, "records", "GET", f"/emrs/{'0' * 32}")
    assert (answer.status, answer.code) == (403, "IDENTITY_UNKNOWN")


async def test_revoked_staff_are_refused_by_services_and_ledger(stack: Stack, cast: Cast, ledger: LedgerAccess) -> None:
    physician = await stack.staff("a", "physician")
    patient = await stack.patient(cast.healthcenter)
    identity = await ledger.signer(physician)
    admin = Actor("a", "admin", "admin", "admin")
    (await stack.call(admin, "registration", "DELETE", f"/staff/{physician.enrolment_id}")).required()
    if stack.ledger == "fabric":  # whose peers ask no CA
        await stack.publish_revocations("a")
    answer = await stack.call(physician, "records", "GET", f"/emrs/{patient.emr_id}")
    assert (answer.status, answer.code) == (403, "IDENTITY_UNKNOWN")
    contract = ledger.gateways["a"].contract(identity, CHANNEL, CHAINCODE)

    async def is_refused() -> bool:
        try:
            await contract.evaluate(Function.READ_EMR.wire_name, patient.emr_id, target_organizations=["HospitalA"])
        except HlfError as error:
            return error.chaincode_response is None
        return False

    await stack.until(is_refused, "the peer refuses the revoked certificate")

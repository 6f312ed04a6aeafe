from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx
import pytest
from emr_common.auth import Authenticator, CallerDep, require
from emr_common.boundary import PREFIX
from emr_common.http import create_app
from emr_common.issuer_keys import PublishedKeys
from emr_common.readiness import Readiness
from emr_common.sealing import WrappingKey
from emr_common.settings import Settings
from emr_common.tokens import TokenVerifier
from emr_common.wallet import Caller, Wallet
from emr_model.ledger.functions import Role
from fastapi import APIRouter, Depends
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from sqlalchemy.ext.asyncio import AsyncEngine

ISSUER, AUDIENCE = "https://issuer.example/a", "urn:careledger:HospitalA"
KEY = ECKey.generate_key("P-256", {"kid": "k"})
CA = CertificateAuthority.create("ca.a.care.example", "a.care.example")

router = APIRouter(prefix=PREFIX)


@router.get("/anyone")
async def anyone(caller: CallerDep) -> str:
    return caller.enrolment_id


@router.get("/physicians")
async def physicians(caller: Annotated[Caller, Depends(require(Role.PHYSICIAN, Role.HEALTHCENTER))]) -> str:
    return caller.enrolment_id


@router.get("/anybody")
async def anybody() -> str:
    return "numbers"


@dataclass
class Services:
    authenticator: Authenticator
    readiness: Readiness


@dataclass
class Hospital:
    client: httpx.AsyncClient
    engine: AsyncEngine
    wallet: Wallet

    async def enrol(self, role: Role) -> tuple[str, str]:
        """Enrolment id and subject of a new person."""
        enrolment_id, key = f"x-{secrets.token_hex(8)}", new_private_key()
        certificate = CA.issue(enrolment_id, key.public_key(), organizational_units=["client"])
        async with self.engine.begin() as connection:
            await self.wallet.add(
                connection,
                issuer=ISSUER,
                subject=f"s-{enrolment_id}",
                enrolment_id=enrolment_id,
                role=role,
                certificate_pem=certificate_to_pem(certificate),
                private_key=key,
            )
        return enrolment_id, f"s-{enrolment_id}"

    async def get(self, path: str, *authorizations: str) -> httpx.Response:
        headers = [("authorization", authorization) for authorization in authorizations]
        return await self.client.get(f"/v1{path}", headers=headers)


@pytest.fixture
async def hospital(engine: AsyncEngine, wrapping: WrappingKey) -> AsyncIterator[Hospital]:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=KeySet([KEY]).as_dict(private=False))

    wallet = Wallet(engine, wrapping, "HospitalA")
    keys = PublishedKeys(f"{ISSUER}/jwks.json", httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    services = Services(Authenticator(TokenVerifier(ISSUER, AUDIENCE, keys), wallet), Readiness({}))

    @asynccontextmanager
    async def bootstrap() -> AsyncIterator[Services]:
        yield services

    app = create_app(
        title="test",
        description="test",
        settings=Settings(org_msp_id="HospitalA"),
        bootstrap=bootstrap,
        routers=[router],
        for_anybody=["/v1/anybody"],
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield Hospital(client, engine, wallet)


def bearer(subject: str) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": int(time.time()) + 60}
    return f"Bearer {jwt.encode({'alg': 'ES256', 'kid': 'k'}, claims, KEY)}"


async def test_a_token_leads_to_the_identity_enrolled_for_its_subject(hospital: Hospital) -> None:
    enrolment_id, subject = await hospital.enrol(Role.PHYSICIAN)
    assert (await hospital.get("/anyone", bearer(subject))).json() == enrolment_id


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer x y", f"Bearer {'x' * 9000}"])
async def test_no_token_is_no_access(hospital: Hospital, authorization: str) -> None:
    await _refused(hospital)
    await _refused(hospital, authorization)


async def test_what_is_for_anybody_needs_no_token(hospital: Hospital) -> None:
    for authorization in ((), ("",), ("Bearer x",)):
        assert (await hospital.get("/anybody", *authorization)).status_code == 200
    for path in ("/anybody/", "/anybody/more", "//anybody"):
        assert (await hospital.get(path)).status_code == 401


async def test_two_tokens_are_no_access(hospital: Hospital) -> None:
    """A proxy may have judged the other one."""
    _, subject = await hospital.enrol(Role.PHYSICIAN)
    await _refused(hospital, bearer(subject), bearer("stranger"))
    await _refused(hospital, bearer(subject), bearer(subject))


async def _refused(hospital: Hospital, *authorizations: str) -> None:
    answer = await hospital.get("/anyone", *authorizations)
    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_good_token_of_a_stranger_is_refused(hospital: Hospital) -> None:
    answer = await hospital.get("/anyone", bearer("stranger"))
    assert (answer.status_code, answer.json()["code"]) == (403, "IDENTITY_UNKNOWN")


@pytest.mark.parametrize("role", Role)
async def test_a_route_is_for_its_roles(hospital: Hospital, role: Role) -> None:
    _, subject = await hospital.enrol(role)
    answer = await hospital.get("/physicians", bearer(subject))
    if role in {Role.PHYSICIAN, Role.HEALTHCENTER}:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "ROLE_NOT_ALLOWED")


async def test_a_revoked_identity_is_refused_with_a_token_that_is_still_good(hospital: Hospital) -> None:
    enrolment_id, subject = await hospital.enrol(Role.PHYSICIAN)
    assert (await hospital.get("/anyone", bearer(subject))).status_code == 200
    async with hospital.engine.begin() as connection:
        await hospital.wallet.revoke(connection, enrolment_id)
    answer = await hospital.get("/anyone", bearer(subject))
    assert (answer.status_code, answer.json()["code"]) == (403, "IDENTITY_UNKNOWN")

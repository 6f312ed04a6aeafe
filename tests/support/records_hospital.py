"""The records service of a hospital on a real ledger and a real Postgres; tokens are the enrolment ids themselves."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from emr_common.access_log import AccessLog
from emr_common.auth import Authenticator
from emr_common.contents import Place
from emr_common.foundation import Foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Committed, Ledger
from emr_common.own_keys import OwnKeys
from emr_common.positions import Positions
from emr_common.readiness import Readiness
from emr_common.sealing import SealingPrivateKey, WrappingKey, new_wrapping_keyset
from emr_common.settings import (
    AuthSettings,
    DatabaseSettings,
    LedgerSettings,
    PseudonymSettings,
    SealingSettings,
    WalletSettings,
)
from emr_common.tokens import Claims
from emr_common.transactions import TransactionStore
from emr_common.wallet import Wallet
from emr_model.clinical.demographics import demographics_content
from emr_model.clinical.sealed_form import pack
from emr_model.ledger.functions import Function, Role
from emr_readmodel import engine as engines
from emr_records.bootstrap import Services, services
from emr_records.main import application
from emr_records.settings import RecordsSettings
from fastapi import FastAPI
from hlf.identity import Signer, SigningIdentity
from sqlalchemy.ext.asyncio import AsyncEngine
from support.contract_network import CHANNEL, ContractNetwork, Hospital, key_of, new_id
from support.fhir_samples import IDENTIFIER_SYSTEM, patient

ISSUER = "test"
FIRST_REVISION = 1


class EnrolmentIdsAreTokens(Authenticator):
    """In place of tokens, which have tests of their own."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def claims(self, authorization: str | None) -> Claims:
        return Claims(ISSUER, (authorization or "").removeprefix("Bearer "))


@dataclass(frozen=True)
class Person:
    """Somebody enrolled: in the wallet, with a certificate."""

    enrolment_id: str
    signer: SigningIdentity
    role: Role
    patient_id: str | None = None
    emr_id: str | None = None

    def headers(self, **more: str) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Authorization": f"Bearer {self.enrolment_id}", **named}


@dataclass
class RecordsHospital:
    """``wired`` and ``http`` are those of the first instance; ``instance`` starts more."""

    network: ContractNetwork
    hospital: Hospital
    settings: RecordsSettings
    engine: AsyncEngine
    foundation: Foundation
    wired: Services
    http: httpx.AsyncClient

    @property
    def msp_id(self) -> str:
        return self.hospital.member.msp_id

    async def enrol(self, role: Role, *, patient_id: str | None = None, emr_id: str | None = None) -> Person:
        signer = self.hospital.person(role, patient_id)
        enrolment_id = common_name(signer)
        async with self.engine.begin() as connection:
            await self.foundation.wallet.add(
                connection,
                issuer=ISSUER,
                subject=enrolment_id,
                enrolment_id=enrolment_id,
                role=role,
                certificate_pem=signer.certificate_pem,
                private_key=signer.private_key,
                patient_id=patient_id,
                emr_id=emr_id,
            )
        return Person(enrolment_id, signer, role, patient_id, emr_id)

    async def admit(self, resource: Mapping[str, Any] | None = None) -> Person:
        """A new patient with an EMR, as the registration service makes one."""
        patient_id, emr_id = new_id(), new_id()
        person = await self.enrol(Role.PATIENT, patient_id=patient_id, emr_id=emr_id)
        async with self.engine.begin() as connection:
            key = await self.wired.content.emr_keys.create(connection, emr_id)
        packed = pack(demographics_content(dict(resource or patient(f"MRN-{patient_id}"))))
        bound_to = Place(CHANNEL, self.msp_id, emr_id).bound_to("demographics", FIRST_REVISION)
        sealed = key.seal(packed.plaintext, bound_to)
        arguments = (emr_id, patient_id, key_of(person.signer), packed.commitment, hashlib.sha256(sealed).hexdigest())
        clerk = self.hospital.person(Role.HEALTHCENTER)
        transient = {"demographics": sealed}
        await self.submit(clerk, Function.CREATE_EMR, *arguments, transient=transient)
        return person

    async def submit(self, signer: Signer, function: Function, *arguments: str | int, **options: Any) -> Committed:
        """Returns once every hospital's peer has the block: another's may be a little behind."""
        committed = await self.foundation.ledger.submit(signer, function, *arguments, **options)
        await self.seen_everywhere(committed.block)
        return committed

    async def seen_everywhere(self, block: int) -> None:
        for hospital in self.network.hospitals.values():
            assert hospital.tracker is not None
            await hospital.tracker.wait_for_block(block, 20)

    @asynccontextmanager
    async def instance(self) -> AsyncIterator[tuple[Services, httpx.AsyncClient]]:
        """Another instance of the service, with connections of its own."""
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(_pool(self.engine.url.render_as_string(hide_password=False)))
            base = await _foundation(stack, self.settings, self.hospital, engine)
            yield await _instance(stack, self.settings, base)


@asynccontextmanager
async def records_hospital(
    network: ContractNetwork, msp_id: str, url: str, folder: Path
) -> AsyncIterator[RecordsHospital]:
    """``url`` is that of a migrated database. Registers the hospital's sealing key on the ledger."""
    hospital = network.hospitals[msp_id]
    private_key = SealingPrivateKey.generate()
    settings = _settings(msp_id, folder, private_key)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_pool(url))
        base = await _foundation(stack, settings, hospital, engine)
        wired, http = await _instance(stack, settings, base)
        await _register(network, hospital, private_key)
        yield RecordsHospital(network, hospital, settings, engine, base, wired, http)


async def _register(network: ContractNetwork, hospital: Hospital, private_key: SealingPrivateKey) -> None:
    keyset = base64.b64encode(private_key.public_keyset()).decode()
    profile = {"name": hospital.member.msp_id, "sealingKeys": [{"id": "k1", "keyset": keyset}]}
    admin = hospital.person(Role.ADMIN)
    await network.submit(admin, Function.REGISTER_ORGANIZATION, json.dumps(profile))


def _settings(msp_id: str, folder: Path, private_key: SealingPrivateKey) -> RecordsSettings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wrapping.keyset").write_text(new_wrapping_keyset())
    (folder / "wallet.keyset").write_text(new_wrapping_keyset())
    (folder / "sealing-private.keyset").write_text(private_key.serialized())
    for name in ("pseudonym.key", "identifier.key"):
        (folder / name).write_text(secrets.token_hex(32))
    return RecordsSettings(
        org_msp_id=msp_id,
        ledger=LedgerSettings(endpoints=("unused:1",), tls_ca_file=folder, identity_dir=folder),
        database=DatabaseSettings(url_file=folder / "unused"),
        auth=AuthSettings(issuer=ISSUER, audience="unused", jwks_url="unused"),
        wallet=WalletSettings(keyset_file=folder / "wallet.keyset"),
        sealing=SealingSettings(
            wrapping_keyset_file=folder / "wrapping.keyset", private_keyset_file=folder / "sealing-private.keyset"
        ),
        pseudonym=PseudonymSettings(
            key_file=folder / "pseudonym.key",
            identifier_key_file=folder / "identifier.key",
            identifier_systems=(IDENTIFIER_SYSTEM,),
        ),
    )


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[AsyncEngine]:
    engine = engines.create(url, 10)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _foundation(
    stack: AsyncExitStack, settings: RecordsSettings, hospital: Hospital, engine: AsyncEngine
) -> Foundation:
    transactions = await stack.enter_async_context(TransactionStore(engine).running())
    assert hospital.tracker is not None
    service = hospital.person(Role.SERVICE)
    ledger = Ledger(settings.ledger, hospital.gateway, hospital.tracker, service, transactions)
    wallet = Wallet(engine, WrappingKey.from_file(settings.wallet.keyset_file), settings.org_msp_id)
    return Foundation(
        engine=engine,
        ledger=ledger,
        wallet=wallet,
        authenticator=EnrolmentIdsAreTokens(wallet),
        idempotency=Idempotency(engine, ledger),
        transactions=transactions,
        own_keys=OwnKeys(engine, ledger),
        access_log=AccessLog(engine),
        positions=Positions(engine, hospital.tracker),
        readiness=Readiness({}),
    )


async def _instance(
    stack: AsyncExitStack, settings: RecordsSettings, base: Foundation
) -> tuple[Services, httpx.AsyncClient]:
    wired = await stack.enter_async_context(services(settings, base))
    app: FastAPI = application(settings)
    app.state.services = wired
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://records/v1"))
    return wired, http


def common_name(signer: SigningIdentity) -> str:
    """The enrolment id that a certificate carries."""
    certificate = x509.load_pem_x509_certificate(signer.certificate_pem)
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)

"""All the wiring of the registration service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from emr_common.auth import Authenticator
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.readiness import Readiness
from emr_common.sealing import WrappingKey
from emr_common.settings import CaSettings
from emr_common.transactions import TransactionStore
from hlf.ca import CaClient
from hlf.identity import SigningIdentity

from emr_registration.admission import Admission, Recognition
from emr_registration.enrolment import Enrolment
from emr_registration.erasure import Erasure
from emr_registration.settings import RegistrationSettings
from emr_registration.store import Store


@dataclass(frozen=True)
class Services:
    ledger: Ledger
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    readiness: Readiness
    enrolment: Enrolment
    admission: Admission
    erasure: Erasure


@asynccontextmanager
async def bootstrap(settings: RegistrationSettings) -> AsyncIterator[Services]:
    async with foundation(settings) as base, _certificate_authority(settings.ca) as ca:
        emr_keys = EmrKeys(base.engine, WrappingKey.from_file(settings.sealing.wrapping_keyset_file))
        store = Store(base.engine, emr_keys)
        registrar = SigningIdentity.from_msp_dir(settings.ca.registrar_dir, settings.org_msp_id)
        enrolment = Enrolment(ca, registrar, base.engine, base.wallet, settings.auth.issuer)
        recognition = Recognition(
            settings.pseudonym.key_file.read_bytes().strip(), settings.pseudonym.identifier_systems
        )
        erasure = Erasure(base.ledger, store, enrolment)
        async with erasure.finishing():
            yield Services(
                ledger=base.ledger,
                authenticator=base.authenticator,
                idempotency=base.idempotency,
                transactions=base.transactions,
                readiness=base.readiness,
                enrolment=enrolment,
                admission=Admission(base.ledger, store, enrolment, recognition),
                erasure=erasure,
            )


@asynccontextmanager
async def _certificate_authority(settings: CaSettings) -> AsyncIterator[CaClient]:
    tls_ca_pem = None if settings.tls_ca_file is None else settings.tls_ca_file.read_bytes()
    async with CaClient(settings.url, tls_ca_pem) as client:
        yield client

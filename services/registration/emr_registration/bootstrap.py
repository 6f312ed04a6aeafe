"""All the wiring of the registration service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from emr_common import retention
from emr_common.auth import Authenticator
from emr_common.chores import Chore, chores
from emr_common.emr_keys import EmrKeys
from emr_common.foundation import foundation
from emr_common.idempotency import Idempotency
from emr_common.ledger import Ledger
from emr_common.next_keys import NextKeys
from emr_common.own_keys import OwnKeys
from emr_common.readiness import Readiness
from emr_common.resealing import EMR_KEYS, NEXT_KEYS, WALLET, WEBHOOK_SECRETS, Resealing
from emr_common.sealing import WrappingKey
from emr_common.settings import CaSettings
from emr_common.transactions import TransactionStore
from hlf.ca import CaClient
from hlf.identity import SigningIdentity

from emr_registration import enrolment as enrolments
from emr_registration import renewal as renewals
from emr_registration.admission import Admission, Recognition
from emr_registration.demographics import Demographics
from emr_registration.enrolment import Enrolment
from emr_registration.erasure import Erasure
from emr_registration.rebinding import Rebinding
from emr_registration.renewal import Renewal
from emr_registration.settings import RegistrationSettings
from emr_registration.store import Store

RESEAL_EVERY_SECONDS = 600.0
UNFINISHED_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Services:
    ledger: Ledger
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    own_keys: OwnKeys
    readiness: Readiness
    enrolment: Enrolment
    admission: Admission
    demographics: Demographics
    rebinding: Rebinding
    erasure: Erasure
    renewal: Renewal


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
        rebinding = Rebinding(base.ledger, enrolment, NextKeys(base.engine, base.wallet))
        erasure = Erasure(base.ledger, store, enrolment)
        renewal = Renewal(ca, base.wallet, settings.org_msp_id)
        keyset = WrappingKey.from_file(settings.wallet.keyset_file)
        wrapping = WrappingKey.from_file(settings.sealing.wrapping_keyset_file)
        kept = chores(
            base.engine,
            Chore("erasures", UNFINISHED_EVERY_SECONDS, erasure.finish_all),
            Chore("patient-keys", UNFINISHED_EVERY_SECONDS, rebinding.finish_all),
            Chore("revocations", enrolments.FINISH_EVERY_SECONDS, enrolment.finish_revocations),
            Chore("renewal", renewals.EVERY_SECONDS, renewal.renew_due),
            Chore("resealing-wallet", RESEAL_EVERY_SECONDS, Resealing(base.engine, keyset, WALLET).run),
            Chore("resealing-next-keys", RESEAL_EVERY_SECONDS, Resealing(base.engine, keyset, NEXT_KEYS).run),
            Chore("resealing-webhooks", RESEAL_EVERY_SECONDS, Resealing(base.engine, keyset, WEBHOOK_SECRETS).run),
            Chore("resealing-emr-keys", RESEAL_EVERY_SECONDS, Resealing(base.engine, wrapping, EMR_KEYS).run),
            Chore("retention", retention.EVERY_SECONDS, retention.Retention(base.engine, settings.retention).run),
        )
        async with kept:
            yield Services(
                ledger=base.ledger,
                authenticator=base.authenticator,
                idempotency=base.idempotency,
                transactions=base.transactions,
                own_keys=base.own_keys,
                readiness=base.readiness,
                enrolment=enrolment,
                admission=Admission(base.ledger, store, enrolment, recognition),
                demographics=Demographics(base.ledger, store, recognition),
                rebinding=rebinding,
                erasure=erasure,
                renewal=renewal,
            )


@asynccontextmanager
async def _certificate_authority(settings: CaSettings) -> AsyncIterator[CaClient]:
    tls_ca_pem = None if settings.tls_ca_file is None else settings.tls_ca_file.read_bytes()
    async with CaClient(settings.url, tls_ca_pem) as client:
        yield client

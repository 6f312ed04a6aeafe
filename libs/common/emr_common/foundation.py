"""The wiring that registration, records and consent share; each adds its own in ``bootstrap.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_readmodel import engine as engines
from hlf.commits import CommitTracker
from hlf.gateway import Endpoint, Gateway
from hlf.identity import SigningIdentity
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import tracing
from emr_common.access_log import AccessLog
from emr_common.auth import Authenticator
from emr_common.chores import chores
from emr_common.idempotency import Idempotency
from emr_common.issuer_keys import PublishedKeys
from emr_common.ledger import Ledger
from emr_common.own_keys import OwnKeys
from emr_common.positions import Positions
from emr_common.problems import Problem
from emr_common.readiness import Check, Readiness, database_answers
from emr_common.sealing import WrappingKey
from emr_common.settings import LedgerSettings, ServiceSettings, Settings, read_secret
from emr_common.settling import Settling
from emr_common.tokens import TokenVerifier
from emr_common.transactions import TransactionStore
from emr_common.wallet import Wallet


@dataclass(frozen=True)
class Foundation:
    engine: AsyncEngine
    ledger: Ledger
    wallet: Wallet
    authenticator: Authenticator
    idempotency: Idempotency
    transactions: TransactionStore
    own_keys: OwnKeys
    access_log: AccessLog
    positions: Positions
    readiness: Readiness


@asynccontextmanager
async def foundation(settings: ServiceSettings) -> AsyncIterator[Foundation]:
    """Everything connected; on leaving, what is under way is given up and connections close.

    A ledger or database that cannot be reached does not stop the start: readiness says so until it can.
    """
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(database(settings))
        transactions = await stack.enter_async_context(TransactionStore(engine).running())
        ledger = await stack.enter_async_context(connect(settings.org_msp_id, settings.ledger, transactions))
        await stack.enter_async_context(chores(engine, Settling(engine, ledger, transactions).chore()))
        client = await stack.enter_async_context(httpx.AsyncClient(follow_redirects=False))
        wallet = Wallet(engine, WrappingKey.from_file(settings.wallet.keyset_file), settings.org_msp_id)
        keys = PublishedKeys(settings.auth.jwks_url, client, issuer=settings.auth.issuer)
        yield Foundation(
            engine=engine,
            ledger=ledger,
            wallet=wallet,
            authenticator=Authenticator(TokenVerifier(settings.auth.issuer, settings.auth.audience, keys), wallet),
            idempotency=Idempotency(engine, ledger),
            transactions=transactions,
            own_keys=OwnKeys(engine, ledger),
            access_log=AccessLog(engine),
            positions=Positions(engine, ledger.tracker),
            readiness=Readiness({"database": database_answers(engine), **ledger_checks(ledger)}),
        )


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The hospital's Postgres; connections are opened when first needed."""
    assert settings.database is not None
    engine = engines.create(read_secret(settings.database.url_file), settings.database.pool_size)
    tracing.watch(engine)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def connect(msp_id: str, settings: LedgerSettings, transactions: TransactionStore) -> AsyncIterator[Ledger]:
    """The ledger, by the hospital's own service identity."""
    certificate = settings.tls_ca_file.read_bytes()
    endpoints = [Endpoint(address, certificate) for address in settings.endpoints]
    service = SigningIdentity.from_msp_dir(settings.identity_dir, msp_id)
    async with Gateway(endpoints) as gateway, CommitTracker(gateway, service, settings.channel) as tracker:
        yield Ledger(settings, gateway, tracker, service, transactions)


def ledger_checks(ledger: Ledger) -> dict[str, Check]:
    async def evaluates() -> bool:
        try:
            await ledger.evaluate(ledger.service, Function.GET_ORGANIZATION, ledger.msp_id)
        except Problem as problem:
            return problem.code is Code.ORGANIZATION_NOT_FOUND  # an answer of the chaincode all the same
        return True

    async def follows_commits() -> bool:
        return ledger.tracker.is_connected

    return {"ledger": evaluates, "commits": follows_commits}

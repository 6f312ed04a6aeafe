from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import sqlalchemy as sa
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.sharing import sharing_state
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    End,
    EndReason,
    Event,
    OwnerApproval,
    PatientApproval,
    SharedSnapshot,
)
from emr_readmodel import care
from emr_readmodel.columns import Timestamp
from emr_readmodel.sharing import sharing_state as sharing_state_in_sql
from sqlalchemy.ext.asyncio import AsyncEngine

NOW = datetime(2026, 5, 1, tzinfo=UTC)
VERSIONS = (None, 0, 1, 2)
EXPIRIES = (None, NOW - timedelta(microseconds=1), NOW, NOW + timedelta(microseconds=1))
ENDS = (None, 0, 1)


def _access(owner: int | None, patient: int | None, snapshot: int | None, expires_at: datetime | None) -> Access:
    return Access(
        1,
        AccessRequest("d", Purpose.TREATMENT, NOW),
        None if owner is None else OwnerApproval("h", owner, "k", NOW),
        None if patient is None else PatientApproval("p", patient, expires_at, NOW),
        None if snapshot is None else SharedSnapshot(snapshot, "00", "k", NOW),
        Event.ACCESS_REQUESTED,
    )


CASES = [
    (_access(owner, patient, snapshot, expires_at), ended)
    for owner, patient, snapshot, expires_at, ended in product(VERSIONS, VERSIONS, VERSIONS, EXPIRIES, ENDS)
    if patient is not None or expires_at is None
]


@pytest.fixture
async def filled(database: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    async with database.begin() as connection:
        await connection.execute(sa.insert(care.sharing), [_row(i, *case) for i, case in enumerate(CASES)])
    yield database


def _row(number: int, access: Access, ended: int | None) -> dict[str, object]:
    owner, patient, snapshot = access.owner_approval, access.patient_approval, access.snapshot
    return {
        "emr_id": f"{number:04}",
        "recipient_msp": "B",
        "number": 1,
        "owner_msp": "A",
        "patient_id": "p",
        "owner_approved_version": owner.version if owner else None,
        "patient_approved_version": patient.version if patient else None,
        "expires_at": patient.expires_at if patient else None,
        "snapshot_version": snapshot.version if snapshot else None,
        "ended_at": NOW if ended == 1 else None,
        "transaction_id": "t",
        "block": 1,
    }


async def test_the_state_in_sql_is_the_models(filled: AsyncEngine) -> None:
    state = sharing_state_in_sql(sa.literal(NOW, Timestamp))
    async with filled.connect() as connection:
        found = (await connection.scalars(sa.select(state).order_by(care.sharing.c.emr_id))).all()
    expected = [sharing_state(access, _end(ended), NOW).state.value for access, ended in CASES]
    assert list(found) == expected
    assert len(set(expected)) == 7


def _end(number: int | None) -> End | None:
    if number is None:
        return None
    return End(number, "p", EndReason.WITHDRAWN, NOW, Event.SHARING_ENDED_BY_OWNER)

"""``emr_model.ledger.sharing.sharing_state`` in SQL, to filter lists by state and to count. A test holds them equal."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from emr_model.ledger.sharing import SharingState
from sqlalchemy.dialects import postgresql

from emr_readmodel.care import sharing
from emr_readmodel.columns import Timestamp


def sharing_state(now: sa.ColumnElement[datetime]) -> sa.Case[str]:
    """The state of a row of ``care.sharing`` at a moment. ``now`` is an expression, such as ``sa.func.now()``."""
    owner, patient = sharing.c.owner_approved_version, sharing.c.patient_approved_version
    return sa.case(
        (sharing.c.ended_at.is_not(None), _state(SharingState.ENDED)),
        (sharing.c.expires_at <= now, _state(SharingState.EXPIRED)),
        (sa.and_(owner.is_(None), patient.is_(None)), _state(SharingState.REQUESTED)),
        (patient.is_(None), _state(SharingState.AWAITING_PATIENT)),
        (owner.is_(None), _state(SharingState.AWAITING_OWNER)),
        (sharing.c.snapshot_version == sa.func.least(owner, patient), _state(SharingState.SHARED)),
        else_=_state(SharingState.APPROVED),
    )


def _state(state: SharingState) -> sa.ColumnElement[str]:
    return sa.literal(state.value, sa.Text())


def sharing_state_sql() -> str:
    """The expression at the time of the query, for views over ``care.sharing``."""
    compiled = sharing_state(sa.func.now(type_=Timestamp)).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    return str(compiled)

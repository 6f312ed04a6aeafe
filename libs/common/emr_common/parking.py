"""EMRs that wait for a correction of the read model: what an answer from it may lack, or shows as it was before.

The rows of a parked EMR stand as they were before the event that could not be projected, whatever ``as_of_block`` says;
one whose creation waits has none. Answers say so, rather than leave somebody out in silence or be refused for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from emr_readmodel.care import emr, parked
from sqlalchemy.ext.asyncio import AsyncConnection

MOST_NAMED = 20
_NO_EMR = "org:%"


@dataclass(frozen=True)
class Parked:
    """``count`` EMRs of which an answer may say too little; ``emr_ids`` names the first MOST_NAMED of them, and
    ``shown`` are those of the answer's own.
    """

    count: int = 0
    emr_ids: tuple[str, ...] = ()
    shown: frozenset[str] = frozenset()


async def parked_among(
    connection: AsyncConnection, may_be_among: sa.ColumnElement[bool], shown: Sequence[str] = ()
) -> Parked:
    """Within the transaction of the answer's rows. ``may_be_among`` is about ``parked`` and ``emr``, its row, which is
    all null for an EMR whose creation waits; it says by what no waiting event changes whether the answer is about it.
    """
    joined = parked.outerjoin(emr, emr.c.emr_id == parked.c.subject)
    query = sa.select(parked.c.subject, sa.func.count().over()).select_from(joined)
    query = query.where(parked.c.subject.not_like(_NO_EMR), may_be_among).order_by(parked.c.subject)
    found = (await connection.execute(query.limit(MOST_NAMED))).all()
    if not found:
        return Parked()
    of_shown = sa.select(parked.c.subject).where(parked.c.subject.in_(shown))
    return Parked(found[0][1], tuple(row[0] for row in found), frozenset(await connection.scalars(of_shown)))


def has_owner(msp_id: str) -> sa.ColumnElement[bool]:
    """Whether an EMR is a hospital's, or may be: whose it is stands in no row before its creation is in."""
    return sa.or_(emr.c.emr_id.is_(None), emr.c.owner_msp == msp_id)


def has_other_owner(msp_id: str) -> sa.ColumnElement[bool]:
    return sa.or_(emr.c.emr_id.is_(None), emr.c.owner_msp != msp_id)

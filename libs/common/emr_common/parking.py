"""EMRs that wait for a correction of the read model: what would show one is refused rather than answered with old rows.

The rows of a parked EMR stand as they were before the event that could not be projected, whatever ``as_of_block`` says.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from emr_model.ledger.codes import Code
from emr_readmodel.care import parked
from sqlalchemy.ext.asyncio import AsyncConnection

from emr_common.problems import Problem


async def refuse_parked(connection: AsyncConnection, emr_ids: sa.Select[Any]) -> None:
    """``emr_ids`` selects, as its only column, the EMRs that the answer may show: by what no waiting event changes.

    Within the transaction of the answer's rows. Raises Problem INDEX_PARKED if one of them is parked.
    """
    any_waits = sa.exists(sa.select(parked.c.subject))  # looked at first: then the rest is not, on most days
    if await connection.scalar(sa.select(sa.and_(any_waits, sa.exists().where(parked.c.subject.in_(emr_ids))))):
        raise Problem(Code.INDEX_PARKED)

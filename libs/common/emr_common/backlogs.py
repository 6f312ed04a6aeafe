"""How much of one caller's may wait in Postgres."""

from __future__ import annotations

import sqlalchemy as sa
from emr_model.ledger.codes import Code
from sqlalchemy.ext.asyncio import AsyncConnection

from emr_common.problems import Problem

AGAIN = {"Retry-After": "60"}


async def require_room(connection: AsyncConnection, waits: sa.ColumnElement[bool], most: int) -> None:
    """``waits`` tells which rows of a table are a caller's that have not ended. Raises Problem TOO_MANY_REQUESTS when
    there are ``most`` of them.
    """
    if (await connection.scalars(sa.select(sa.func.count()).where(waits))).one() >= most:
        raise Problem(Code.TOO_MANY_REQUESTS, headers=AGAIN)

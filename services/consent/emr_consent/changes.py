"""What has changed between hospitals, in the order of blocks: the source of server-sent events and webhooks.

A change is a row of the read model as it stands now, told when a block touched it. It is taken only up to
`as_of_block`; what comes into the read model late (a replay, a rebuild) stands at the block after the last one that
anybody can have been told, so that nothing comes before where somebody stands. Two changes of one sharing may be told
as one; the last one never goes missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson
import sqlalchemy as sa
from emr_common.positions import as_of_block
from emr_common.wallet import Caller
from emr_model.ledger.functions import Role
from emr_readmodel.care import disclosure, sharing, told_block
from emr_readmodel.sharing import sharing_state
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from emr_consent.schemas import SharingOut

Kind = Literal["sharing", "disclosure"]

_SHARING: list[sa.ColumnElement[Any]] = [
    sharing_state(sa.func.now()).label(name) if name == "state" else sharing.c[name] for name in SharingOut.model_fields
]
_DISCLOSURE: list[sa.ColumnElement[Any]] = [
    disclosure.c[name]
    for name in (
        "emr_id",
        "owner_msp",
        "recipient_msp",
        "number",
        "version",
        "purpose",
        "at",
        "transaction_id",
        "block",
    )
]


_SOURCES: dict[Kind, tuple[sa.Table, list[sa.ColumnElement[Any]]]] = {
    "sharing": (sharing, _SHARING),
    "disclosure": (disclosure, _DISCLOSURE),
}
MOST_ROWS = 1000
_TOLD = "told_block"


@dataclass(frozen=True)
class Change:
    """`block` is where it stands among the others, `data["block"]` its own. `data` has ids, versions, codes and
    moments: no content.
    """

    block: int
    kind: Kind
    emr_id: str
    data: dict[str, Any]

    @property
    def json(self) -> bytes:
        return orjson.dumps({to_camel(str(name)): value for name, value in self.data.items()})

    def concerns(self, caller: Caller) -> bool:
        """Patients hear of their own EMR; staff of everything between their hospital and others."""
        return caller.role is not Role.PATIENT or self.emr_id == caller.emr_id


@dataclass(frozen=True)
class Changes:
    """All changes after block `since` and up to block `up_to`, in the order of their blocks."""

    since: int
    up_to: int
    changes: tuple[Change, ...]

    def of(self, caller: Caller) -> list[Change]:
        return [change for change in self.changes if change.concerns(caller)]


class ChangeStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def newest_block(self) -> int:
        """Up to which block everything is in the read model; -1 before the first."""
        async with self._engine.connect() as connection:
            return _known(await as_of_block(connection))

    async def after(self, block: int, emr_id: str | None = None, *, most_blocks: int | None = None) -> Changes:
        """Changes after `block`, with `emr_id` those of one EMR; when there are very many, the first of them.

        With `most_blocks` only those of the last so many blocks: `since` says from where on.
        """
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            up_to = _known(await as_of_block(connection))
            if up_to <= block:
                return Changes(block, block, ())
            since = block if most_blocks is None else max(block, up_to - most_blocks)
            for kind in _SOURCES:
                up_to = await _last_whole_block(connection, kind, since, up_to, emr_id)
            found = [change for kind in _SOURCES for change in await _changes(connection, kind, since, up_to, emr_id)]
        return Changes(since, up_to, tuple(sorted(found, key=lambda change: (change.block, change.data["block"]))))


async def _last_whole_block(connection: AsyncConnection, kind: Kind, block: int, up_to: int, emr_id: str | None) -> int:
    """The block before the one that holds the row at MOST_ROWS; `up_to` when there are fewer."""
    query = _query(kind, block, up_to, emr_id).offset(MOST_ROWS).limit(1)
    too_many = (await connection.execute(query)).mappings().one_or_none()
    return up_to if too_many is None else max(too_many[_TOLD] - 1, block + 1)


async def _changes(connection: AsyncConnection, kind: Kind, block: int, up_to: int, emr_id: str | None) -> list[Change]:
    rows = (await connection.execute(_query(kind, block, up_to, emr_id))).mappings()
    found = [dict(row) for row in rows]
    return [Change(row.pop(_TOLD), kind, row["emr_id"], row) for row in found]


def _query(kind: Kind, block: int, up_to: int, emr_id: str | None) -> sa.Select[Any]:
    table, columns = _SOURCES[kind]
    told = told_block(table)
    query = sa.select(*columns, told.label(_TOLD)).where(told > block, told <= up_to).order_by(told, table.c.block)
    return query if emr_id is None else query.where(table.c.emr_id == emr_id)


def _known(block: int | None) -> int:
    return -1 if block is None else block

"""Sharings and disclosures that come into the read model late are told all the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    for table in ("sharing", "disclosure"):
        op.add_column(
            table,
            sa.Column(
                "late_block",
                sa.BigInteger(),
                nullable=True,
                comment="Block with which streams and webhooks tell it, when they may have passed its own; else null",
            ),
            schema="care",
        )
        op.create_index(
            f"{table}_told_idx", table, [sa.text("coalesce(late_block, block)")], unique=False, schema="care"
        )
    op.add_column(
        "generation",
        sa.Column(
            "reached",
            sa.BigInteger(),
            server_default=sa.text("-1"),
            nullable=False,
            comment="Block up to which partitions were when their number changed and positions began anew; -1: never",
        ),
        schema="care",
    )
    op.create_table_comment(
        "parked",
        "What waits for a correction: its rows stand as they were before event_id, and answers say so",
        existing_comment="What waits for a correction: its rows stand as they were before event_id, "
        "and are not to be shown",
        schema="care",
    )

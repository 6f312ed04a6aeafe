"""Where a transaction's trace goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "transaction",
        sa.Column(
            "traceparent",
            sa.Text(),
            nullable=True,
            comment="W3C trace context of the request that it belongs to; null while traces are off",
        ),
        schema="hospital",
    )

"""Where a hospital's own systems are told what changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("webhook_id", sa.Text(), nullable=False, comment="What its administrator calls it"),
        sa.Column("url", sa.Text(), nullable=False, comment="Where events are posted to, https"),
        sa.Column("kinds", _json(), nullable=False, comment="Which events: sharing, disclosure"),
        sa.Column(
            "revision", sa.Text(), nullable=False, comment="Changes whenever an administrator changes the webhook"
        ),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="Up to this block everything was delivered"),
        sa.Column(
            "delivered",
            _json(),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="Ids of the events of the next block that were delivered",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Attempts that failed since the last that did not",
        ),
        _moment("failing_since", "When the first of these was; null when the last attempt went well"),
        sa.Column(
            "last_failure",
            sa.Text(),
            nullable=True,
            comment="A code for what went wrong; nothing of what was answered",
        ),
        _moment("not_before", "When the next attempt is due; null for now"),
        _moment("delivered_at", "When an event was last delivered"),
        _moment("disabled_at", "When it was given up; null while it is in use"),
        sa.Column("created_by", sa.Text(), nullable=False, comment="Enrolment id of the administrator who made it"),
        _made("When it was made"),
        sa.PrimaryKeyConstraint("webhook_id", name="webhook_pkey"),
        schema="hospital",
        comment="Where this hospital's own systems are told what changes between hospitals",
    )
    op.create_table(
        "webhook_secret",
        sa.Column("secret_id", sa.Text(), nullable=False, comment="Which secret; its seal is bound to it"),
        sa.Column("webhook_id", sa.Text(), nullable=False, comment="The webhook whose deliveries it signs"),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False, comment="The secret, sealed by the wallet keyset"),
        _made("When it was made"),
        _moment("replaced_at", "When a newer one took its place; it signs for a day more"),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["hospital.webhook.webhook_id"],
            name="webhook_secret_webhook_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("secret_id", name="webhook_secret_pkey"),
        schema="hospital",
        comment="Secrets by which webhooks' deliveries are signed",
    )
    op.create_index("webhook_secret_webhook_id_idx", "webhook_secret", ["webhook_id"], unique=False, schema="hospital")


def _json() -> postgresql.JSONB:
    return postgresql.JSONB(none_as_null=True, astext_type=sa.Text())


def _moment(name: str, comment: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True, comment=comment)


def _made(comment: str) -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment=comment
    )

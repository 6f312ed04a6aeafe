"""What waits for a correction, an index of placeholders, and the indexer's jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

_JSON = postgresql.JSONB(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "parked",
        sa.Column("subject", sa.Text(), nullable=False, comment="The EMR, or org:<MSP id> for a hospital's profile"),
        sa.Column(
            "event_id",
            sa.Text(),
            nullable=False,
            comment="The first event that waits: the one that could not be projected",
        ),
        sa.Column("code", sa.Text(), nullable=False, comment="Why: a stable code, also in dead_letter"),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the first of its events was parked",
        ),
        sa.PrimaryKeyConstraint("subject", name="parked_pkey"),
        schema="care",
        comment="What waits for a correction: its rows stand as they were before event_id, and are not to be shown",
    )
    op.create_table(
        "parked_event",
        sa.Column("subject", sa.Text(), nullable=False, comment="What waits"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Block of the event"),
        sa.Column("tx", sa.Integer(), nullable=False, comment="Transaction in that block, from 0"),
        sa.Column("write", sa.Integer(), nullable=False, comment="Write in that transaction, from 0"),
        sa.Column("event_id", sa.Text(), nullable=False, comment="channel/block/tx/write"),
        sa.Column("object_type", sa.Text(), nullable=False, comment="Type of the ledger object"),
        sa.Column(
            "message", sa.LargeBinary(), nullable=False, comment="The event as it stood on Kafka, content sealed"
        ),
        sa.PrimaryKeyConstraint("subject", "block", "tx", "write", name="parked_event_pkey"),
        schema="care",
        comment="Events that wait behind the one that could not be projected, in order. Kept here: topics keep 7 days",
    )
    op.create_index(
        "note_placeholder_idx",
        "note",
        ["emr_id", "version"],
        schema="care",
        postgresql_where=sa.text("content is null"),
    )
    op.create_table(
        "index_job",
        sa.Column("job_id", sa.Text(), nullable=False, comment="The job, 32 hexadecimal digits"),
        sa.Column("kind", sa.Text(), nullable=False, comment="replay, rebuild or verification"),
        sa.Column("argument", _JSON, nullable=False, comment="What was asked for: ids and switches"),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="Enrolment id of the administrator"),
        sa.Column(
            "state",
            sa.Text(),
            server_default=sa.text("'queued'"),
            nullable=False,
            comment="queued, running, done or failed",
        ),
        sa.Column("progress", _JSON, nullable=True, comment="How far it is: blocks and numbers"),
        sa.Column("result", _JSON, nullable=True, comment="What came of it: ids, numbers and codes"),
        sa.Column("code", sa.Text(), nullable=True, comment="Why it failed: a stable code"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was asked for",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="When it was first begun"),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it ended"),
        sa.CheckConstraint("kind in ('replay', 'rebuild', 'verification')", name="index_job_kind_check"),
        sa.CheckConstraint("state in ('queued', 'running', 'done', 'failed')", name="index_job_state_check"),
        sa.PrimaryKeyConstraint("job_id", name="index_job_pkey"),
        schema="hospital",
        comment="What administrators asked of the indexer",
    )
    op.create_index("index_job_created_at_idx", "index_job", ["created_at"], schema="hospital")

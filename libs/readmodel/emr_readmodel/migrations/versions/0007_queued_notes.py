"""Notes that wait for every hospital to be there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "queued_note",
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of acceptance"),
        sa.Column(
            "ticket",
            sa.Text(),
            nullable=False,
            comment="What its author asks by: 64 hexadecimal digits, no Fabric transaction id",
        ),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR that it goes into"),
        sa.Column("caller", sa.Text(), nullable=False, comment="Enrolment id of the physician"),
        sa.Column("note_id", sa.Text(), nullable=False, comment="The note's id"),
        sa.Column("kind", sa.Text(), nullable=False, comment="The note's kind: encounter, amendment or text"),
        sa.Column(
            "expected_version",
            sa.BigInteger(),
            nullable=True,
            comment="The version that its author meant; null for any",
        ),
        sa.Column(
            "sealed_note",
            sa.LargeBinary(),
            nullable=True,
            comment="The note under the EMR's key, until it has ended",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="queued, submitted, committed or refused"),
        sa.Column("transaction_id", sa.Text(), nullable=True, comment="The transaction that was last handed in for it"),
        sa.Column("version", sa.BigInteger(), nullable=True, comment="The note's version in the EMR, once committed"),
        sa.Column("block", sa.BigInteger(), nullable=True, comment="The block of its transaction, once committed"),
        sa.Column("code", sa.Text(), nullable=True, comment="Why it was refused: a stable error code"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was accepted",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was committed or refused"),
        sa.CheckConstraint(
            "state in ('queued', 'submitted', 'committed', 'refused')", name=op.f("queued_note_state_check")
        ),
        sa.PrimaryKeyConstraint("position", name="queued_note_pkey"),
        sa.UniqueConstraint("ticket", name="queued_note_ticket_key"),
        schema="hospital",
        comment="Notes that wait for every hospital to be there, in order for each EMR",
    )
    op.create_index(
        "queued_note_emr_id_idx",
        "queued_note",
        ["emr_id", "position"],
        unique=False,
        schema="hospital",
        postgresql_where=sa.text("finished_at is null"),
    )

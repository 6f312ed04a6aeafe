"""Searching: names in their order, visits by time, codes by EMR, notes by words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    comment = "What of the content people may look for by words; null as the content is"
    op.add_column("note", sa.Column("words", TSVECTOR(), nullable=True, comment=comment), schema="care")
    # Of notes that are there already every text counts, but for attachments; a rebuild takes the words alone.
    op.execute(
        "update care.note set words = jsonb_to_tsvector('simple', content, '[\"string\"]') where content is not null"
    )
    op.create_index("note_words_idx", "note", ["words"], schema="care", postgresql_using="gin")
    where = sa.text("is_visit")
    op.create_index("note_period_start_idx", "note", ["period_start", "emr_id"], schema="care", postgresql_where=where)
    op.drop_index("emr_family_name_idx", "emr", schema="care")
    for name in ("family_name", "given_names"):
        columns: list[str | sa.TextClause | sa.ColumnElement[object]] = [
            sa.text(f'(lower({name}) collate "C")'),
            "emr_id",
        ]
        op.create_index(f"emr_{name}_idx", "emr", columns, schema="care")
    for table in ("condition", "medication"):
        op.drop_index(f"{table}_code_idx", table, schema="care")
        op.create_index(f"{table}_code_idx", table, ["code", "emr_id"], schema="care")

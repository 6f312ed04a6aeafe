"""Schema published, and what releases of published numbers keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("create schema if not exists published")
    op.execute("comment on schema published is 'Numbers that may leave the house'")
    op.create_table(
        "release",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of the releases"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the published numbers were refreshed",
        ),
        sa.Column(
            "as_of_block",
            sa.BigInteger(),
            nullable=False,
            comment="Up to which block of the ledger the rows were that it was made of",
        ),
        sa.PrimaryKeyConstraint("id", name="release_pkey"),
        schema="hospital",
        comment="Each refresh of the published numbers",
    )
    op.create_table(
        "release_cell",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of writing"),
        sa.Column("release_id", sa.BigInteger(), nullable=False, comment="The release"),
        sa.Column(
            "measure",
            sa.Text(),
            nullable=False,
            comment="What is counted: visits, patients, conditions, medications or disclosures",
        ),
        sa.Column("year", sa.Integer(), nullable=False, comment="Calendar year"),
        sa.Column(
            "month",
            sa.Integer(),
            nullable=True,
            comment="Month, 1 to 12; null when given up or not of the measure",
        ),
        sa.Column(
            "encounter_class",
            sa.Text(),
            nullable=True,
            comment="Code of the encounter's class; null when given up or not of the measure",
        ),
        sa.Column(
            "encounter_type",
            sa.Text(),
            nullable=True,
            comment="Code of the encounter's first type; null as for the class",
        ),
        sa.Column(
            "age_band",
            sa.Text(),
            nullable=True,
            comment="Age in bands of ten years; null when given up or not of the measure",
        ),
        sa.Column(
            "sex",
            sa.Text(),
            nullable=True,
            comment="Administrative gender; null when given up or not of the measure",
        ),
        sa.Column(
            "system",
            sa.Text(),
            nullable=True,
            comment="Code system of a condition or medication; null for other measures",
        ),
        sa.Column(
            "code", sa.Text(), nullable=True, comment="Code of a condition or medication; null for other measures"
        ),
        sa.Column(
            "purpose", sa.Text(), nullable=True, comment="HL7 PurposeOfUse code of a disclosure; null when given up"
        ),
        sa.Column(
            "display",
            sa.Text(),
            nullable=True,
            comment="The code in words, if as many patients' notes as a cell needs say it so",
        ),
        sa.Column(
            "number",
            sa.Integer(),
            nullable=False,
            comment="How many facts were added to the cell, rounded to 5; 15 or more",
        ),
        sa.CheckConstraint("number >= 15 and number % 5 = 0", name=op.f("release_cell_number_check")),
        sa.ForeignKeyConstraint(["release_id"], ["hospital.release.id"], name="release_cell_release_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="release_cell_pkey"),
        schema="hospital",
        comment="What each release added to the published numbers: facts of 11 patients or more at a time. "
        "Never changed",
    )
    op.create_index("release_cell_measure_idx", "release_cell", ["measure", "year"], unique=False, schema="hospital")
    op.create_table(
        "released_fact",
        sa.Column("measure", sa.Text(), nullable=False, comment="In which measure the fact is counted"),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR it is about"),
        sa.Column(
            "ref",
            sa.Text(),
            nullable=False,
            comment="Where it stands: a note's version, and its place in the note, or a transaction",
        ),
        sa.PrimaryKeyConstraint("measure", "emr_id", "ref", name="released_fact_pkey"),
        schema="hospital",
        comment="Facts that the published numbers count already; deleted at erasure, which the numbers outlive",
    )

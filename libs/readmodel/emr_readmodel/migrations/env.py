"""Alembic's entry: migrations run in the transaction that ``emr_readmodel.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from emr_readmodel import care, hospital
from emr_readmodel.columns import metadata

assert {table.schema for table in metadata.tables.values()} == {hospital.SCHEMA, care.SCHEMA}

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_schemas=True,
    include_object=context.config.attributes.get("include_object"),
    version_table="schema_version",
)
context.run_migrations()

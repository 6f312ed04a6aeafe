from __future__ import annotations

import os
from pathlib import Path

from emr_readmodel.columns import metadata
from emr_readmodel.dictionary import dictionary
from sqlalchemy.ext.asyncio import AsyncEngine

PAGE = Path(__file__).parents[3] / "docs" / "data-dictionary.md"


async def test_the_page_is_what_the_databases_comments_say(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        generated = await dictionary(connection)
    if os.environ.get("WRITE_DICTIONARY"):
        PAGE.write_text(generated)
    assert PAGE.read_text() == generated, "run: make dictionary"


async def test_the_page_leaves_no_table_out(database: AsyncEngine) -> None:
    async with database.connect() as connection:
        generated = await dictionary(connection)
    for table in metadata.sorted_tables:
        assert f"### {table.name}\n{table.comment}." in generated
        for column in table.columns:
            assert f"| `{column.name}`" in generated

from __future__ import annotations

from pathlib import Path

from emr_common.error_reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "api" / "errors.md"


def test_the_page_of_error_codes_is_that_of_the_codes() -> None:
    assert PAGE.read_text() == reference(), "run: python -m emr_common.error_reference > docs/api/errors.md"

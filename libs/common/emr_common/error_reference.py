"""``docs/api/errors.md``, made from the codes: ``python -m emr_common.error_reference > docs/api/errors.md``."""

from __future__ import annotations

import sys

from emr_model.ledger.codes import Code

from emr_common.problems import RETRIABLE

PREFACE = """# Error codes

Generated from `emr_model.ledger.codes`: do not edit. Codes are stable, titles are not. "Again": the same request may
succeed later, nothing of it having taken effect.

| Status | Code | Meaning | Again |
|---|---|---|---|
"""


def reference() -> str:
    """The page, codes by status."""
    return PREFACE + "".join(map(_row, sorted(Code, key=lambda code: (code.status, code.name))))


def _row(code: Code) -> str:
    return f"| {code.status} | `{code.name}` | {code.title} | {'yes' if code in RETRIABLE else ''} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())

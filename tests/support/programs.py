"""Fabric's official programs, for the tests that need them."""

from __future__ import annotations

import pytest
from emr_network.fabric.programs import Programs, ProgramsMissing


def official_programs() -> Programs:
    """From FABRIC_BIN or PATH. The test is skipped where there are none."""
    try:
        return Programs.find()
    except ProgramsMissing as missing:
        pytest.skip(str(missing))

"""What a process of a service does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER_USED = ("rich", "yaml", "pygments", "pydantic.v1", "sqlalchemy.orm", "opentelemetry.sdk")


@pytest.mark.parametrize("service", ["emr_records", "emr_consent.sharer", "emr_indexer.projector"])
def test_a_service_starts_without_what_it_never_uses(service: str) -> None:
    program = (
        "import runpy, sys\n"
        f"try: runpy.run_module({service!r}, run_name='__main__')\n"
        "except Exception as error: assert type(error).__name__ == 'SettingsInvalid', error\n"
        f"print([name for name in {NEVER_USED} if sys.modules.get(name) is not None])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, env={}
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr

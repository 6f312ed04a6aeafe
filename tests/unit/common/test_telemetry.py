from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CANARY = "canary-7c1d"
PROLOGUE = """
import logging
import structlog
from emr_common.settings import LogSettings
from emr_common.telemetry import begin_request, configure_logging
configure_logging(LogSettings())
def fail():
    raise ValueError("canary-7c1d")
"""


def logged(program: str) -> list[dict[str, Any]]:
    """What a process of its own writes to standard error, line by line."""
    command = [sys.executable, "-c", PROLOGUE + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert CANARY not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_exceptions_text_is_not_logged_but_its_place_is() -> None:
    (line,) = logged("""
try:
    try:
        fail()
    except ValueError as error:
        raise RuntimeError("canary-7c1d") from error
except RuntimeError as error:
    structlog.get_logger("emr.test").error("it_failed", exc_info=error)
""")
    assert (line["event"], line["level"], line["logger"]) == ("it_failed", "error", "emr.test")
    outer, cause = line["failure_chain"]
    assert outer.startswith("builtins.RuntimeError at __main__:")
    assert cause.startswith("builtins.ValueError at __main__:")


def test_loggers_of_libraries_are_held_to_the_same() -> None:
    (line,) = logged("""
try:
    fail()
except ValueError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
""")
    assert line["event"] == "Exception in ASGI application"
    assert line["failure_chain"][0].startswith("builtins.ValueError")


def test_a_line_that_cannot_be_written_does_not_spill_what_it_was_about() -> None:
    assert (
        logged("""
class Unwritable:
    def __repr__(self):
        raise ValueError("canary-7c1d")
try:
    fail()
except ValueError:
    logging.getLogger("library").error("%r", Unwritable(), exc_info=True)
""")
        == []
    )


def test_urls_that_a_client_asks_for_are_not_logged() -> None:
    assert logged("logging.getLogger('httpx').info('HTTP Request: GET https://a/canary-7c1d')") == []


def test_a_line_carries_the_request_it_belongs_to() -> None:
    (line,) = logged("""
begin_request("abcdef0123456789")
structlog.get_logger("emr.test").info("something")
""")
    assert line["request_id"] == "abcdef0123456789"

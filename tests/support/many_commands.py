"""Runs several `emr` commands one after the other in one process: standard input takes a JSON list of argument lists,
standard output gives a JSON list of exit codes with all that was said."""

from __future__ import annotations

import json
import sys
import traceback

from emr_deploy.cli import EXIT_CODES, app
from typer.testing import CliRunner


def run(arguments: list[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    failure = result.exception
    if failure is None or isinstance(failure, SystemExit):
        return result.exit_code, result.output
    if isinstance(failure, tuple(EXIT_CODES)):
        return next(code for kind, code in EXIT_CODES.items() if isinstance(failure, kind)), str(failure)
    return -1, "".join(traceback.format_exception(failure))


if __name__ == "__main__":
    json.dump([run(arguments) for arguments in json.load(sys.stdin)], sys.stdout)

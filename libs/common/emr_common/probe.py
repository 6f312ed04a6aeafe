"""`python -m emr_common.probe`: exit 0 if the service of this container is ready, for the container's health check."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

PROBE_SECONDS = 4.0


def is_ready(environment: Mapping[str, str]) -> bool:
    """Whether `/readyz` at the port that `EMR_HTTP__PORT` names says so."""
    connection = HTTPConnection("127.0.0.1", int(environment["EMR_HTTP__PORT"]), timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_ready(os.environ))

"""The development issuer's clients: one a subject, whose secret is a file."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from emr_network.home import Home
from emr_network.ports import Ports

SUBJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def issuer_url(ports: Ports, organization: str) -> str:
    return f"http://{ports.address('issuer')}/{organization}"


def audience(msp_id: str) -> str:
    return f"urn:careledger:{msp_id}"


def client_secret(home: Home, organization: str, subject: str) -> str:
    """The secret of the client that speaks for `subject`, made when first asked for. ValueError for an odd name."""
    path = secret_file(home, organization, subject)
    if not path.exists():
        home.write_secret(path, secrets.token_urlsafe(32))
    return path.read_text()


def secret_file(home: Home, organization: str, subject: str) -> Path:
    """Where the client's secret is kept. ValueError for an odd name."""
    if not SUBJECT.fullmatch(subject):
        raise ValueError("a subject is 1 to 64 lower-case letters, digits, dots, dashes and underscores")
    return home.secret(organization, "clients") / subject

"""The development issuer's clients: one a subject, which shows a secret kept in a file, or signs assertions with a key
whose public half is registered here.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from emr_common.issuer_keys import PublicKey, usable_keys
from emr_network.home import Home
from emr_network.ports import Ports
from joserfc.jwk import ECKey, KeySet

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
    return _client_file(home, organization, subject, "clients")


def register_keys(home: Home, organization: str, subject: str, jwks: str) -> int:
    """Has the client sign its assertions by the keys of a JWKS, in place of those before. How many may sign.

    Raises ValueError for an odd name, and for a set that holds no public signing key.
    """
    keys = usable_keys(_parsed(jwks))
    if not keys:
        raise ValueError("the key set holds no public key that could verify a signature")
    public = KeySet(list(keys)).as_dict(private=False)
    home.write_secret(_client_file(home, organization, subject, "client-jwks"), json.dumps(public))
    return len(keys)


def _parsed(jwks: str) -> dict[str, object]:
    document = json.loads(jwks)
    if not isinstance(document, dict):
        raise ValueError("a key set is a JSON object")
    return document


def new_client_key(home: Home, organization: str, subject: str) -> Path:
    """Makes a P-384 key for the client, registers its public half, and returns the file of the private one."""
    key = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, auto_kid=True)
    register_keys(home, organization, subject, json.dumps(KeySet([key]).as_dict(private=False)))
    path = _client_file(home, organization, subject, "client-keys")
    return home.write_secret(path, json.dumps(key.as_dict(private=True)))


def registered_keys(home: Home, organization: str, subject: str) -> list[PublicKey]:
    """None for a client without keys, or one whose name could not be a file's."""
    if not SUBJECT.fullmatch(subject):
        return []
    path = _client_file(home, organization, subject, "client-jwks")
    return usable_keys(json.loads(path.read_text())) if path.exists() else []


def _client_file(home: Home, organization: str, subject: str, folder: str) -> Path:
    if not SUBJECT.fullmatch(subject):
        raise ValueError("a subject is 1 to 64 lower-case letters, digits, dots, dashes and underscores")
    return home.secret(organization, folder) / subject

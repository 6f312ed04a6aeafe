"""Client assertions (RFC 7523 as SMART App Launch 2.x has it, `private_key_jwt`): made for a client, and judged by the
issuer.

An assertion names its client twice (`iss`, `sub`), the token endpoint (`aud`), ends within five minutes and counts
once. Only RS384 and ES384 sign it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from emr_common.issuer_keys import PublicKey
from emr_common.tokens import key_id_of, verified
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS384", "ES384")
LONGEST_SECONDS = 300
LEEWAY_SECONDS = 30
MAX_CHARACTERS = 8192
MAX_JTI_CHARACTERS = 255


class AssertionRefused(Exception):
    """The assertion does not hold. Who sent it is not told why."""


def sign_assertion(key: ECKey | RSAKey, client_id: str, token_endpoint: str, **changed: Any) -> str:
    """An assertion for one use within four minutes; `changed` claims are another's, for tests."""
    now = int(time.time())
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_endpoint,
        "iat": now,
        "exp": now + 240,
        "jti": secrets.token_urlsafe(24),
        **changed,
    }
    algorithm = "ES384" if isinstance(key, ECKey) else "RS384"
    return jwt.encode({"alg": algorithm, "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=[algorithm])


class UsedAssertions:
    """Which `jti` were used, by client: a file, so that an issuer that starts again does not take one twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(self._connect()) as database, database:
            database.execute(
                "create table if not exists used (client text, jti text, expires real, primary key (client, jti))"
            )

    def use(self, client_id: str, jti: str, expires: float) -> bool:
        """False when it was used before. Durable when it returns; what has expired is forgotten."""
        with closing(self._connect()) as database, database:
            database.execute("delete from used where expires < ?", (time.time() - LEEWAY_SECONDS,))
            row = (client_id, jti, expires)
            return database.execute("insert or ignore into used values (?, ?, ?)", row).rowcount == 1

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5.0)


def client_of(assertion: str) -> str:
    """Whom an assertion says it is from, nothing of it verified. Raises AssertionRefused."""
    if len(assertion) > MAX_CHARACTERS:
        raise AssertionRefused
    try:
        claims = json.loads(jws.extract_compact(assertion.encode("ascii")).payload)
    except (JoseError, ValueError, RecursionError):
        raise AssertionRefused from None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    if not isinstance(subject, str):
        raise AssertionRefused
    return subject


class Assertions:
    """Judges assertions meant for one token endpoint."""

    def __init__(self, token_endpoint: str, used: UsedAssertions) -> None:
        self._used = used
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True},
            sub={"essential": True},
            aud={"essential": True, "value": token_endpoint},
            exp={"essential": True},
            jti={"essential": True},
        )

    def check(self, assertion: str, client_id: str, keys: list[PublicKey]) -> None:
        """Raises AssertionRefused unless it is the client's, signed by one of `keys`, in time, and was never used."""
        try:
            token = self._verified(assertion, keys)
            self._claims.validate(token.claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise AssertionRefused from None
        claims = token.claims
        is_own = claims["iss"] == claims["sub"] == client_id
        jti, expires = claims["jti"], claims["exp"]
        is_short = expires <= time.time() + LONGEST_SECONDS + LEEWAY_SECONDS
        if not is_own or not is_short or not isinstance(jti, str) or len(jti) > MAX_JTI_CHARACTERS:
            raise AssertionRefused
        if not self._used.use(client_id, jti, expires):
            raise AssertionRefused

    def _verified(self, assertion: str, keys: list[PublicKey]) -> jwt.Token:
        """No `jku` is taken: a client's keys are the registered ones."""
        key_id = key_id_of(assertion)
        key = next((one for one in keys if one.kid == key_id), None)
        if key is None:
            raise AssertionRefused
        token = verified(assertion, key)
        if token.header["alg"] not in ALGORITHMS or "jku" in token.header:
            raise AssertionRefused
        return token

"""Who a bearer token speaks of: signature by the issuer's published keys, issuer, audience, expiry and subject.

Only asymmetric algorithms count, the key decides which of them, and a token without the ``kid`` of a published key is
refused.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass

import httpx
import structlog
from emr_model.ledger.codes import Code
from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, InvalidKeyTypeError, JoseError, SecurityWarning, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, JWKRegistry, KeySet, KeySetSerialization, OKPKey, RSAKey

from emr_common.problems import Problem

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519", "EdDSA")
ALGORITHMS_BY_KEY = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "Ed25519": frozenset({"Ed25519", "EdDSA"}),
}
LEEWAY_SECONDS = 30
KEYS_STAY_FRESH_SECONDS = 300.0
REFETCH_AFTER_SECONDS = 10.0
FETCH_TIMEOUT_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Claims:
    """What a verified token says: the pair by which the wallet knows a person."""

    issuer: str
    subject: str


class IssuerUnreachable(Exception):
    """The issuer's keys could not be fetched, and none are at hand."""


class PublishedKeys:
    """The issuer's JWKS: fetched when first needed, every five minutes, and early for an unknown ``kid`` (a rotation).

    Early fetches are at least ten seconds apart, so that forged ``kid`` values cannot be turned against the issuer.
    While the issuer is unreachable the last keys stay in use.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> RSAKey | ECKey | OKPKey:
        """Raises JoseError when the issuer publishes no usable key of that id, IssuerUnreachable when there is no way
        to know.
        """
        if self._is_stale():
            await self._fetch(at_most_once_in=1.0 if self._keys is None else REFETCH_AFTER_SECONDS)
        try:
            return self._pick(key_id)
        except InvalidKeyIdError:
            await self._fetch(at_most_once_in=REFETCH_AFTER_SECONDS)
            return self._pick(key_id)

    def _is_stale(self) -> bool:
        return self._keys is None or time.monotonic() - self._fetched_at > KEYS_STAY_FRESH_SECONDS

    def _pick(self, key_id: str) -> RSAKey | ECKey | OKPKey:
        if self._keys is None:
            raise IssuerUnreachable
        for key in self._keys:
            if key.kid == key_id and isinstance(key, RSAKey | ECKey | OKPKey):
                return key
        raise InvalidKeyIdError

    async def _fetch(self, *, at_most_once_in: float) -> None:
        async with self._fetching:
            if time.monotonic() - self._tried_at < at_most_once_in:
                return
            self._tried_at = time.monotonic()
            try:
                answer = await self._client.get(self._url, timeout=FETCH_TIMEOUT_SECONDS)
                self._keys = _usable(answer.raise_for_status().json())
                self._fetched_at = time.monotonic()
            except (httpx.HTTPError, JoseError, ValueError, TypeError, KeyError) as error:
                log.warning("issuer_keys_not_fetched", failure=type(error).__name__)


def _usable(published: KeySetSerialization) -> KeySet:
    """The set without keys that the library warns of, such as RSA under 2048 bits."""
    keys = []
    for one in published["keys"]:
        with warnings.catch_warnings(), suppress(SecurityWarning, InvalidKeyTypeError):
            warnings.simplefilter("error", SecurityWarning)
            keys.append(JWKRegistry.import_key(one))
    return KeySet(keys)


class _Algorithms(jws.JWSRegistry):
    def get_alg(self, name: str) -> JWSAlgModel:
        """Without the library's warning that ``EdDSA`` names no curve (RFC 9864): here the key's curve decides."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class TokenVerifier:
    """Turns a bearer token into Claims, or refuses it with TOKEN_INVALID (a 401 that does not say what was wrong)."""

    def __init__(self, issuer: str, audience: str, keys: PublishedKeys) -> None:
        self._keys = keys
        self._registry = _Algorithms()
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def verify(self, token: str) -> Claims:
        """Raises Problem TOKEN_INVALID for any token that does not hold, LEDGER-independent 503 when keys cannot be
        had.
        """
        try:
            key = await self._keys.find(_key_id(token))
            claims = self._verified(token, key)
        except IssuerUnreachable:
            raise Problem(Code.ISSUER_UNAVAILABLE) from None
        except (JoseError, ValueError, TypeError):
            raise refused() from None
        return Claims(claims["iss"], claims["sub"])

    def _verified(self, token: str, key: RSAKey | ECKey | OKPKey) -> jwt.Claims:
        decoded = jwt.decode(token, key, registry=self._registry)
        if decoded.header["alg"] not in _algorithms_of(key):
            raise JoseError("the algorithm is not one of the key")
        self._claims.validate(decoded.claims)
        return decoded.claims


def _key_id(token: str) -> str:
    header = jws.extract_compact(token.encode("ascii")).headers()
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise InvalidKeyIdError
    return key_id


def _algorithms_of(key: RSAKey | ECKey | OKPKey) -> frozenset[str]:
    if isinstance(key, RSAKey):
        return ALGORITHMS_BY_KEY["RSA"]
    return ALGORITHMS_BY_KEY.get(key.curve_name, frozenset())


def refused() -> Problem:
    return Problem(Code.TOKEN_INVALID, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

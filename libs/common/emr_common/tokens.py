"""Who a bearer token speaks of: signature by the issuer's published keys, issuer, audience, expiry and subject.

Only asymmetric algorithms count, the key decides which of them, and a token without the ``kid`` of a published key is
refused.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from emr_model.ledger.codes import Code
from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import RSAKey

from emr_common.issuer_keys import IssuerUnreachable, PublicKey, PublishedKeys
from emr_common.problems import Problem

ALGORITHMS_BY_KEY = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"Ed25519", "EdDSA"}),
    "Ed448": frozenset({"Ed448", "EdDSA"}),
}
ALGORITHMS = frozenset().union(*ALGORITHMS_BY_KEY.values())
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
LEEWAY_SECONDS = 30
LONGEST_SUBJECT = 255
JUDGED = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat"})
"""The claims that are looked at; the others are not kept."""
TOKENS_KNOWN = 2048


@dataclass(frozen=True)
class Claims:
    """What a verified token says: the pair by which the wallet knows a person."""

    issuer: str
    subject: str


class Algorithms(jws.JWSRegistry):
    def get_alg(self, name: str) -> JWSAlgModel:
        """Without the library's warning that ``EdDSA`` names no curve (RFC 9864): here the key's curve decides."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


@dataclass(frozen=True)
class _Known:
    """A token whose signature was verified by ``key``. What its claims say is judged at each request."""

    key_id: str
    key: PublicKey
    claims: dict[str, Any]


class TokenVerifier:
    """Turns a bearer token into Claims, or refuses it with TOKEN_INVALID (a 401 that does not say what was wrong)."""

    def __init__(self, issuer: str, audience: str, keys: PublishedKeys) -> None:
        self._keys = keys
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def verify(self, token: str) -> Claims:
        """Raises Problem TOKEN_INVALID for any token that does not hold, ISSUER_UNAVAILABLE when keys cannot be had."""
        try:
            claims = await self._verified(token)
            self._claims.validate(claims)
            checked_subject(claims["sub"])
        except IssuerUnreachable:
            raise Problem(Code.ISSUER_UNAVAILABLE) from None
        except (JoseError, ValueError, TypeError, RecursionError):
            raise refused() from None
        return Claims(claims["iss"], claims["sub"])

    async def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature holds, by a key that the issuer publishes now. A signature that was
        verified by that very key is not verified again.
        """
        digest = hashlib.sha256(token.encode("ascii")).digest()
        known = self._known.get(digest)
        key = await self._keys.find(key_id_of(token) if known is None else known.key_id)
        if known is not None and known.key is key:
            self._known.move_to_end(digest)
            return known.claims
        decoded = verified(token, key)
        _check_type(decoded.header)
        claims = {name: value for name, value in decoded.claims.items() if name in JUDGED}
        self._known[digest] = _Known(decoded.header["kid"], key, claims)
        if len(self._known) > TOKENS_KNOWN:
            self._known.popitem(last=False)
        return claims


def key_id_of(token: str) -> str:
    """The ``kid`` that a token claims, before anything of it is verified. Raises JoseError or ValueError."""
    header = jws.extract_compact(token.encode("ascii")).headers()
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise InvalidKeyIdError
    return key_id


def verified(token: str, key: PublicKey) -> jwt.Token:
    """The token, whose signature is the key's by an algorithm of that key. Its claims are yet to be validated. Raises
    JoseError or ValueError, for any critical header too (RFC 7515, 4.1.11): no extension is understood here.
    """
    decoded = jwt.decode(token, key, registry=Algorithms())
    if decoded.header["alg"] not in _algorithms_of(key) or "crit" in decoded.header:
        raise UnsupportedAlgorithmError
    return decoded


def checked_subject(subject: str) -> str:
    """OpenID Connect Core, section 2: at most 255 characters. What cannot be shown, no issuer means. Raises
    ValueError.
    """
    if len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise ValueError("sub")
    return subject


def _algorithms_of(key: PublicKey) -> frozenset[str]:
    """By type and curve; a key that is published with ``alg`` is for that one alone (RFC 7517, 4.4)."""
    fitting = ALGORITHMS_BY_KEY.get("RSA" if isinstance(key, RSAKey) else key.curve_name, frozenset())
    return fitting if key.alg is None else fitting & {key.alg}


def _check_type(header: dict[str, Any]) -> None:
    """A token made for something else, such as a logout, is none for access (RFC 8725, 3.11)."""
    if str(header.get("typ", "JWT")).lower() not in ACCESS_TOKEN_TYPES:
        raise UnsupportedAlgorithmError


def refused() -> Problem:
    return Problem(Code.TOKEN_INVALID, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

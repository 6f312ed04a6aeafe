"""The keys by which a token issuer signs: found by OpenID Connect Discovery, fetched, kept for a while, picked by
``kid``.
"""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import structlog
from joserfc.errors import InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

KEYS_STAY_FRESH_SECONDS = 300.0
KEYS_ARE_KEPT_SECONDS = 24 * 3600.0
REFETCH_AFTER_SECONDS = 10.0
FETCH_TIMEOUT_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 512 * 1024
WELL_KNOWN = "/.well-known/openid-configuration"

PublicKey = RSAKey | ECKey | OKPKey

log = structlog.get_logger(__name__)


class IssuerUnreachable(Exception):
    """The issuer's keys could not be fetched, and none are at hand."""


class DiscoveryFailed(Exception):
    """The issuer's metadata is not of that issuer, or names no place of its keys that may be used."""


class PublishedKeys:
    """The issuer's JWKS: fetched when first needed, every five minutes, and early for an unknown ``kid`` (a rotation).

    Early fetches are at least ten seconds apart, so that forged ``kid`` values cannot be turned against the issuer.
    While the issuer is unreachable the last keys stay in use, for a day; one request in ten seconds waits for an
    attempt to reach it.
    """

    def __init__(self, url: str | None, client: httpx.AsyncClient, *, issuer: str = "") -> None:
        """``url`` None has it looked up in the metadata of ``issuer``, at each fetch."""
        self._locate = _fixed(url) if url is not None else _discovered(issuer, client)
        self._client = client
        self._keys: list[PublicKey] | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> PublicKey:
        """Raises JoseError when the issuer publishes no usable key of that id, IssuerUnreachable when there is no way
        to know.
        """
        if self._keys is None:
            await self._fetch(at_most_once_in=1.0)
        elif self._age > KEYS_STAY_FRESH_SECONDS and not self._fetching.locked():
            await self._fetch(at_most_once_in=REFETCH_AFTER_SECONDS)
        try:
            return self._pick(key_id)
        except InvalidKeyIdError:
            await self._fetch(at_most_once_in=REFETCH_AFTER_SECONDS)
            return self._pick(key_id)

    @property
    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _pick(self, key_id: str) -> PublicKey:
        if self._keys is None or self._age > KEYS_ARE_KEPT_SECONDS:
            raise IssuerUnreachable
        for key in self._keys:
            if key.kid == key_id:
                return key
        raise InvalidKeyIdError

    async def _fetch(self, *, at_most_once_in: float) -> None:
        async with self._fetching:
            if time.monotonic() - self._tried_at < at_most_once_in:
                return
            self._tried_at = time.monotonic()
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                    self._keys = usable_keys(await fetch_json(self._client, await self._locate()))
                self._fetched_at = time.monotonic()
            except (httpx.HTTPError, httpx.InvalidURL, DiscoveryFailed, TimeoutError, ValueError) as error:
                log.warning("issuer_keys_not_fetched", failure=type(error).__name__)


def _fixed(url: str) -> Callable[[], Awaitable[str]]:
    async def locate() -> str:
        return url

    return locate


def _discovered(issuer: str, client: httpx.AsyncClient) -> Callable[[], Awaitable[str]]:
    """OpenID Connect Discovery 1.0, section 4: metadata that names another issuer does not count (4.3)."""

    async def locate() -> str:
        metadata = await fetch_json(client, f"{issuer.rstrip('/')}{WELL_KNOWN}")
        url = metadata.get("jwks_uri")
        if metadata.get("issuer") != issuer or not isinstance(url, str):
            raise DiscoveryFailed
        if issuer.startswith("https:") and not url.startswith("https:"):
            raise DiscoveryFailed
        return url

    return locate


async def fetch_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """A JSON object of at most half a MiB. Raises httpx's errors, or ValueError for anything else."""
    content = bytearray()
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ValueError("the document is too large")
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def usable_keys(published: dict[str, Any]) -> list[PublicKey]:
    """The public keys of a JWKS that may verify a signature, without those that the library warns of (RSA under 2048
    bits), cannot read, or that are meant for something else (RFC 7517, ``use`` and ``key_ops``).

    Raises ValueError for what is no JWKS.
    """
    entries = published.get("keys")
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    keys: list[PublicKey] = []
    for entry in entries:
        with (
            warnings.catch_warnings(),
            suppress(SecurityWarning, JoseError, ValueError, TypeError),
        ):
            warnings.simplefilter("error", SecurityWarning)
            key = JWKRegistry.import_key(entry)
            if isinstance(key, PublicKey) and _verifies(entry):
                keys.append(key)
    return keys


def _verifies(entry: dict[str, Any]) -> bool:
    return entry.get("use", "sig") == "sig" and "verify" in entry.get("key_ops", ["verify"])

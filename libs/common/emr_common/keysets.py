"""Changing a hospital's AEAD keyset while services use it. Tink seals by the primary key and opens by any.

A rotation: ``add`` a key (every service then opens what it seals), ``promote`` it (every service then seals by it),
re-seal what the earlier keys have sealed, ``retire`` these. Each step leaves a keyset with which everything opens.
"""

from __future__ import annotations

import json
from typing import Any

import tink
from tink import aead, json_proto_keyset_format, secret_key_access

from emr_common.sealing import new_wrapping_keyset


class RotationRefused(Exception):
    """The step would leave something that cannot be opened, or there is nothing to do."""


def added(keyset: str) -> str:
    """The keyset with one more key, which only opens. Raises RotationRefused while a key waits to be promoted."""
    document = _read(keyset)
    if document["key"][-1]["keyId"] != document["primaryKeyId"]:
        raise RotationRefused("the newest key is not the primary one yet: promote it")
    taken = {key["keyId"] for key in document["key"]}
    while (fresh := _read(new_wrapping_keyset())["key"][0])["keyId"] in taken:
        continue
    document["key"].append(fresh)
    return _written(document)


def promoted(keyset: str) -> str:
    """The keyset by whose newest key is sealed."""
    document = _read(keyset)
    document["primaryKeyId"] = document["key"][-1]["keyId"]
    return _written(document)


def retired(keyset: str) -> str:
    """The keyset without the keys before the primary one. Raises RotationRefused for a key that was not promoted.

    What they have sealed, a backup too, is unreadable then.
    """
    document = _read(keyset)
    if document["key"][-1]["keyId"] != document["primaryKeyId"]:
        raise RotationRefused("the newest key is not the primary one yet: promote it")
    document["key"] = document["key"][-1:]
    return _written(document)


def key_ids(keyset: str) -> tuple[int, ...]:
    """Oldest first."""
    return tuple(key["keyId"] for key in _read(keyset)["key"])


def _read(keyset: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(keyset)
    return document


def _written(document: dict[str, Any]) -> str:
    """Having proven that it is a keyset that seals."""
    text = json.dumps(document)
    try:
        json_proto_keyset_format.parse(text, secret_key_access.TOKEN).primitive(aead.Aead)
    except tink.TinkError as error:
        raise RotationRefused("not an AEAD keyset") from error
    return text

"""Arguments come from anyone who holds a certificate: each is one of these forms exactly, or the call is refused.

No refusal repeats what it refuses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from emr_model.ledger import keys
from emr_model.ledger.codec import ValueMalformed, parse, parse_timestamp
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Spec
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import OWNER_REASONS, EndReason, OrganizationProfile

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
LARGEST_ARGUMENT = 64 * 1024
MOST_SNAPSHOTS = 200
MOST_SEALING_KEYS = 16
LARGEST_KEYSET = 4096
LARGEST_SEALED = {  # a little over what the content may be, for sealing and the salt
    "note": 272 * 1024,
    "demographics": 272 * 1024,
    "snapshot": 9 * 1024 * 1024,
}

_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MSP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_RECEIPT = re.compile(r"(?P<emr_id>[0-9a-f]{32})\.(?P<transaction_id>[0-9a-f]{64})")
_SNAPSHOT = re.compile(r"(?P<sharing>[1-9][0-9]{0,9})~(?P<version>0|[1-9][0-9]{0,9})")

Choice = TypeVar("Choice", bound=StrEnum)
Found = TypeVar("Found")


class Arguments:
    """The arguments of one call by name. Every method raises ``Refused`` with ARGUMENT_INVALID, naming the argument."""

    def __init__(self, spec: Spec, given: Sequence[bytes], transient: Mapping[str, bytes]) -> None:
        self._values = _by_name(spec, given)
        self._transient = dict(transient)
        if self._transient.keys() != ({spec.transient} if spec.transient else set()):
            raise _invalid("transient data")

    def identifier(self, name: str) -> str:
        """128 random bits in lowercase hex."""
        return self._matching(name, _IDENTIFIER)

    def digest(self, name: str) -> str:
        """SHA-256 in lowercase hex."""
        return self._matching(name, _DIGEST)

    def msp_id(self, name: str) -> str:
        return self._matching(name, _MSP_ID)

    def key_id(self, name: str) -> str:
        return self._matching(name, _KEY_ID)

    def number(self, name: str) -> int:
        """At most ten digits, without sign and leading zeros, and with a successor that fits a key too."""
        number = int(self._matching(name, _NUMBER))
        if number >= keys.LARGEST_NUMBER:
            raise _invalid(name)
        return number

    def flag(self, name: str) -> bool:
        return self._one_of(name, {"true": True, "false": False}.get)

    def purpose(self, name: str) -> Purpose:
        return self._one_of(name, _choices(tuple(Purpose)).get)

    def owner_reason(self, name: str) -> EndReason:
        return self._one_of(name, _choices(OWNER_REASONS).get)

    def optional_timestamp(self, name: str) -> datetime | None:
        if not self._values[name]:
            return None
        try:
            return parse_timestamp(self._values[name])
        except ValueMalformed:
            raise _invalid(name) from None

    def optional_identifier(self, name: str) -> str | None:
        return self.identifier(name) if self._values[name] else None

    def optional_number(self, name: str, default: int, *, largest: int, least: int = 0) -> int:
        number = self.number(name) if self._values[name] else default
        if not least <= number <= largest:
            raise _invalid(name)
        return number

    def page_size(self) -> int:
        return self.optional_number("pageSize", DEFAULT_PAGE, least=1, largest=LARGEST_PAGE)

    def bookmark(self, first: str) -> str:
        """The key to go on from, or "". It must lie in the range that begins with ``first``, or it would show others'
        rows.
        """
        if not self._values["bookmark"]:
            return ""
        try:
            key = base64.b64decode(self._values["bookmark"], altchars=b"-_", validate=True).decode()
        except ValueError:
            raise _invalid("bookmark") from None
        if not key.startswith(first):
            raise _invalid("bookmark")
        return key

    def receipt(self, name: str) -> tuple[str, str]:
        """emrId and transaction id."""
        match = _RECEIPT.fullmatch(self._values[name])
        if match is None:
            raise _invalid(name)
        return match["emr_id"], match["transaction_id"]

    def snapshots(self, name: str) -> tuple[tuple[int, int], ...]:
        """A JSON array of ``sharing~version``, without repetitions."""
        try:
            listed = parse(self._values[name])
        except ValueMalformed:
            raise _invalid(name) from None
        if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_SNAPSHOTS:
            raise _invalid(name)
        found = tuple(_snapshot(item, name) for item in listed)
        if len(set(found)) != len(found):
            raise _invalid(name)
        return found

    def profile(self, name: str) -> OrganizationProfile:
        try:
            profile = OrganizationProfile.from_json(self._values[name])
        except ValueMalformed:
            raise _invalid(name) from None
        key_ids = [key.id for key in profile.sealing_keys]
        if not (1 <= len(profile.name) <= 200 and profile.name.isprintable() and profile.name == profile.name.strip()):
            raise _invalid(name)
        if not 1 <= len(key_ids) <= MOST_SEALING_KEYS or len(set(key_ids)) != len(key_ids):
            raise _invalid(name)
        if not all(_KEY_ID.fullmatch(key.id) and _is_keyset(key.keyset) for key in profile.sealing_keys):
            raise _invalid(name)
        return profile

    def sealed(self, name: str, sha256: str) -> bytes:
        """The transient bytes, which must be those that ``sha256`` is of."""
        content = self._transient[name]
        if not 0 < len(content) <= LARGEST_SEALED[name]:
            raise _invalid(name)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Refused(Code.ARGUMENT_INVALID, f"sha256 is not that of the transient {name}")
        return content

    def _matching(self, name: str, form: re.Pattern[str]) -> str:
        if not form.fullmatch(self._values[name]):
            raise _invalid(name)
        return self._values[name]

    def _one_of(self, name: str, find: Callable[[str], Found | None]) -> Found:
        found = find(self._values[name])
        if found is None:
            raise _invalid(name)
        return found


def encode_bookmark(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _by_name(spec: Spec, given: Sequence[bytes]) -> dict[str, str]:
    if not len(spec.required) <= len(given) <= len(spec.arguments):
        raise Refused(Code.ARGUMENT_INVALID, "the number of arguments is wrong")
    texts = [_text(name, value) for name, value in zip(spec.arguments, given, strict=False)]
    texts += [""] * (len(spec.arguments) - len(texts))
    return dict(zip(spec.arguments, texts, strict=True))


def _text(name: str, value: bytes) -> str:
    if len(value) > LARGEST_ARGUMENT:
        raise _invalid(name)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _invalid(name) from None


def _choices(members: Sequence[Choice]) -> dict[str, Choice]:
    return {member.value: member for member in members}


def _snapshot(item: object, name: str) -> tuple[int, int]:
    match = _SNAPSHOT.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        raise _invalid(name)
    return int(match["sharing"]), int(match["version"])


def _is_keyset(text: str) -> bool:
    try:
        return 0 < len(base64.b64decode(text, validate=True)) <= LARGEST_KEYSET
    except (binascii.Error, ValueError):
        return False


def _invalid(name: str) -> Refused:
    return Refused(Code.ARGUMENT_INVALID, f"{name} does not have its form")

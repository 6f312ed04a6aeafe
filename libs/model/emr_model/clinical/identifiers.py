"""The identifier by which admission recognizes a patient, and its HMAC: all that a hospital's database keeps of it."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emr_model.clinical.canonical import JsonObject, canonical_bytes
from emr_model.clinical.errors import IdentifierMissing


@dataclass(frozen=True, repr=False)
class PatientIdentifier:
    """A normalized identifier: two writings of the same one are equal."""

    system: str
    value: str

    def hmac(self, key: bytes) -> bytes:
        """32 bytes, the same for the same identifier under the same key."""
        return hmac.new(key, canonical_bytes(["identifier", self.system, self.value]), hashlib.sha256).digest()


def normalize(text: str) -> str:
    """Unicode NFKC, trimmed."""
    return unicodedata.normalize("NFKC", text).strip()


def patient_identifier(system: str, value: str) -> PatientIdentifier:
    """Raises IdentifierMissing when system or value is empty once normalized."""
    identifier = PatientIdentifier(normalize(system), normalize(value))
    if not identifier.system or not identifier.value:
        raise IdentifierMissing("the identifier is empty")
    return identifier


def recognized_identifier(patient: JsonObject, systems: Sequence[str]) -> PatientIdentifier:
    """The Patient's identifier of the first of the hospital's ``systems`` that it has.

    Raises IdentifierMissing when it has none of them.
    """
    found = list(identifiers_of(patient))
    for system in map(normalize, systems):
        for identifier in found:
            if identifier.system == system:
                return identifier
    raise IdentifierMissing("the Patient has no identifier of a system by which this hospital recognizes people")


def identifiers_of(patient: JsonObject) -> Iterator[PatientIdentifier]:
    """All identifiers that have a system and a value, normalized, in the Patient's order."""
    entries = patient.get("identifier")
    for entry in entries if isinstance(entries, list) else []:
        system, value = (entry.get("system"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if isinstance(system, str) and isinstance(value, str) and normalize(system) and normalize(value):
            yield PatientIdentifier(normalize(system), normalize(value))

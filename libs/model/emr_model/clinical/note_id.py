"""Note ids: 128 bits of HMAC-SHA-256 under the hospital's key, so that the same note posted again has the same id.

Nobody without the key can tell from an id which Encounter it stands for, nor that two patients share one.
"""

from __future__ import annotations

import hashlib
import hmac

from emr_model.clinical.canonical import canonical_bytes


def encounter_note_id(key: bytes, patient_id: str, encounter_key: str) -> str:
    """``encounter_key`` is the Encounter's ``system|value``, else its fullUrl (``NoteContent.note_key``)."""
    return _note_id(key, "encounter", patient_id, encounter_key)


def background_note_id(key: bytes, patient_id: str, content: bytes) -> str:
    """Over the canonical bytes: other background is another note."""
    return _note_id(key, "background", patient_id, hashlib.sha256(content).hexdigest())


def typed_note_id(key: bytes, patient_id: str, caller: str, idempotency_key: str) -> str:
    """Of a typed note or an amendment: two equal texts are two notes, one request repeated is one.

    ``caller`` is the physician's enrolment id.
    """
    return _note_id(key, "typed", patient_id, caller, idempotency_key)


def _note_id(key: bytes, *parts: str) -> str:
    return hmac.new(key, canonical_bytes(list(parts)), hashlib.sha256).digest()[:16].hex()

"""An EMR's own content: read from the ledger page by page, verified against its public state, opened.

Every reader comes through here: what does not hash to what the ledger says is refused, whoever gave it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from emr_model.clinical.errors import ClinicalError
from emr_model.clinical.sealed_form import Unpacked, unpack
from emr_model.ledger.answers import EmrView, NoteView
from emr_model.ledger.codes import Code
from emr_model.ledger.values import Emr, Life

from emr_common import telemetry
from emr_common.emr_keys import EmrKeyMissing
from emr_common.problems import Problem
from emr_common.sealing import ContentKey, Kind, SealingFailed, associated_data

log = structlog.get_logger(__name__)


class ContentMismatch(Exception):
    """Sealed bytes are not what public state says of them, or do not open in their place. Always worth an alarm."""


class ContentMissing(Exception):
    """The peer does not hold the sealed bytes (yet)."""


@dataclass(frozen=True, repr=False)
class OpenedNote:
    view: NoteView
    content: Unpacked


@dataclass(frozen=True, repr=False)
class OpenedEmr:
    """An EMR up to some version, in the clear."""

    emr_id: str
    emr: Emr
    life: Life
    demographics: Unpacked
    notes: tuple[OpenedNote, ...]


@dataclass(frozen=True)
class Place:
    """Where own content belongs: channel, owner and EMR, which its seal is bound to."""

    channel: str
    owner_msp: str
    emr_id: str

    def bound_to(self, kind: Kind, version: int) -> bytes:
        return associated_data(
            channel=self.channel,
            owner=self.owner_msp,
            recipient=self.owner_msp,
            kind=kind,
            emr_id=self.emr_id,
            version=version,
        )

    def open_note(self, key: ContentKey, view: NoteView) -> OpenedNote:
        """Raises ContentMissing or ContentMismatch."""
        sealed = _present(view.sealed)
        return OpenedNote(view, self.open(key, sealed, "note", view.version, view.sha256, view.commitment))

    def open_demographics(self, key: ContentKey, emr: Emr, sealed: str | None) -> Unpacked:
        """Raises ContentMissing or ContentMismatch."""
        revision = emr.demographics_revision
        return self.open(key, _present(sealed), "demographics", revision, emr.sha256, emr.commitment)

    def open(self, key: ContentKey, sealed: bytes, kind: Kind, version: int, sha256: str, commitment: str) -> Unpacked:
        """Content whose sealed bytes hash to ``sha256`` and whose opened bytes fit ``commitment`` (both hex).

        Raises ContentMismatch.
        """
        if not hmac.compare_digest(hashlib.sha256(sealed).hexdigest(), sha256):
            raise ContentMismatch(f"{kind} {version} of {self.emr_id}: other bytes than the ledger says")
        try:
            return unpack(key.open(sealed, self.bound_to(kind, version)), commitment)
        except (SealingFailed, ClinicalError) as error:
            raise ContentMismatch(
                f"{kind} {version} of {self.emr_id}: does not open as what the ledger says"
            ) from error


ReadPage = Callable[[int], Awaitable[EmrView]]
"""Asks for the page of an EMR that starts at a version."""


async def open_emr(place: Place, key: ContentKey, read: ReadPage, *, up_to: int | None = None) -> OpenedEmr:
    """The whole EMR, or its notes up to version ``up_to``. Raises ContentMissing, ContentMismatch, or what ``read``
    raises.
    """
    first = page = await read(1)
    last = first.emr.version if up_to is None else up_to
    demographics = place.open_demographics(key, first.emr, first.demographics)
    views = list(page.notes)
    while page.next is not None and page.next <= last:
        page = await read(page.next)
        views += page.notes
    notes = tuple(place.open_note(key, view) for view in views if view.version <= last)
    if len(notes) != last:
        raise ContentMissing(f"{place.emr_id} has fewer notes than version {last}")
    return OpenedEmr(place.emr_id, first.emr, first.life, demographics, notes)


@contextmanager
def content_problems() -> Iterator[None]:
    """Turns what can be wrong with content into what the caller is told."""
    try:
        yield
    except (EmrKeyMissing, ContentMissing) as error:
        log.warning("content_unavailable", exc_info=error)
        raise Problem(Code.CONTENT_UNAVAILABLE) from error
    except ContentMismatch as error:
        raise mismatch("own", error) from error


def mismatch(kind: str, error: Exception) -> Problem:
    """Raises the alarm. ``kind`` is ``own`` or ``shared``."""
    telemetry.CONTENT_MISMATCHES.labels(kind).inc()
    log.error("content_mismatch", kind=kind, exc_info=error)
    return Problem(Code.CONTENT_MISMATCH)


def require_held(*sealed: str | None) -> None:
    """Raises ContentMissing unless the peer gave all of it."""
    if None in sealed:
        raise ContentMissing("the peer does not hold the content")


def _present(sealed: str | None) -> bytes:
    if sealed is None:
        raise ContentMissing("the peer does not hold the content")
    return base64.b64decode(sealed, validate=True)

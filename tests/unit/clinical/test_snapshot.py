import os
import zlib

import pytest
from emr_model.clinical.canonical import canonical_bytes, parse_object
from emr_model.clinical.errors import ClinicalError, CommitmentMismatch, ContentTooLarge, SnapshotInvalid
from emr_model.clinical.sealed_form import SALT_BYTES, commitment
from emr_model.clinical.snapshot import Snapshot, SnapshotDemographics, SnapshotNote, build, open_snapshot


def demographics(content: bytes = b'{"resourceType":"Patient"}') -> SnapshotDemographics:
    return SnapshotDemographics(revision=1, salt=os.urandom(SALT_BYTES), content=content)


def note(version: int, content: bytes = b'{"resourceType":"Bundle"}') -> SnapshotNote:
    return SnapshotNote(version=version, note_id="0" * 32, salt=os.urandom(SALT_BYTES), content=content)


def test_a_snapshot_opens_to_what_was_built() -> None:
    snapshot = Snapshot(demographics(), (note(1), note(2)))
    opened = open_snapshot(build(snapshot.demographics, snapshot.notes))
    assert opened == snapshot
    assert opened.version == 2


def test_a_snapshot_of_an_emr_without_notes_has_the_demographics() -> None:
    assert open_snapshot(build(demographics(), [])).version == 0


def test_every_part_is_verified_by_its_own_commitment() -> None:
    opened = open_snapshot(build(demographics(), [note(1)]))
    opened.notes[0].verify(commitment(opened.notes[0].salt, opened.notes[0].content))
    opened.demographics.verify(commitment(opened.demographics.salt, opened.demographics.content))
    with pytest.raises(CommitmentMismatch):
        opened.notes[0].verify(commitment(opened.notes[0].salt, b"{}"))


@pytest.mark.parametrize("versions", [[2], [1, 3], [2, 1], [1, 1], [0, 1]])
def test_a_snapshot_with_a_note_missing_is_not_built(versions: list[int]) -> None:
    with pytest.raises(SnapshotInvalid):
        build(demographics(), [note(version) for version in versions])


def test_a_snapshot_over_its_limit_is_neither_built_nor_opened() -> None:
    with pytest.raises(ContentTooLarge):
        build(demographics(b"x" * 9_000_000), [])
    with pytest.raises(ContentTooLarge):
        open_snapshot(zlib.compress(b"0" * 9_000_000))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("demographics"),
        lambda value: value.update(more=1),
        lambda value: value.update(notes={}),
        lambda value: value.update(notes=[[]]),
        lambda value: value["notes"][0].update(version="1"),
        lambda value: value["notes"][0].update(version=True),
        lambda value: value["notes"][0].update(version=2),
        lambda value: value["notes"][0].update(noteId=1),
        lambda value: value["notes"][0].update(salt="AA=="),
        lambda value: value["notes"][0].update(content="*"),
        lambda value: value["notes"][0].pop("content"),
        lambda value: value["demographics"].update(content=None),
    ],
)
def test_a_snapshot_of_another_form_is_refused(change: object) -> None:
    assert callable(change)
    value = parse_object(zlib.decompress(build(demographics(), [note(1)])))
    change(value)
    with pytest.raises(ClinicalError):
        open_snapshot(zlib.compress(canonical_bytes(value)))

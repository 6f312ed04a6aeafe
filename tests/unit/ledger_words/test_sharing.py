"""The table of sharing states, row by row, and what holds for all of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.sharing import Sharing, SharingState, Side, approved_version, next_number, sharing_state
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    End,
    EndReason,
    Event,
    OwnerApproval,
    PatientApproval,
    SharedSnapshot,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 5, 1, tzinfo=UTC)
REQUEST = AccessRequest("p-1", Purpose.TREATMENT, NOW)


def access(
    owner: int | None = None,
    patient: int | None = None,
    snapshot: int | None = None,
    expires_at: datetime | None = None,
    number: int = 1,
) -> Access:
    return Access(
        number,
        REQUEST,
        None if owner is None else OwnerApproval("h-1", owner, "k", NOW),
        None if patient is None else PatientApproval("p-2", patient, expires_at, NOW),
        None if snapshot is None else SharedSnapshot(snapshot, "f" * 64, "k", NOW),
        Event.ACCESS_REQUESTED,
    )


def end(number: int) -> End:
    return End(number, "p-2", EndReason.REMOVED_BY_PATIENT, NOW, Event.SHARING_ENDED_BY_PATIENT)


LATER, EARLIER = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
S = SharingState


@pytest.mark.parametrize(
    ("standing", "ending", "expected"),
    [
        (access(), None, Sharing(1, S.REQUESTED, None, None, None)),
        (access(), end(0), Sharing(1, S.REQUESTED, None, None, None)),
        (access(owner=3), None, Sharing(1, S.AWAITING_PATIENT, None, None, Side.PATIENT)),
        (access(patient=3), None, Sharing(1, S.AWAITING_OWNER, None, None, Side.OWNER)),
        (access(owner=0, patient=0), None, Sharing(1, S.APPROVED, None, 0, None)),
        (access(owner=3, patient=4), None, Sharing(1, S.APPROVED, None, 3, Side.OWNER)),
        (access(owner=3, patient=3, snapshot=3), None, Sharing(1, S.SHARED, 3, None, None)),
        (access(owner=4, patient=3, snapshot=3), None, Sharing(1, S.SHARED, 3, None, Side.PATIENT)),
        (access(owner=4, patient=4, snapshot=3), None, Sharing(1, S.APPROVED, 3, 4, None)),
        (access(owner=3, patient=3, snapshot=3), end(1), Sharing(1, S.ENDED, None, None, None)),
        (access(owner=3, patient=3, snapshot=3), end(2), Sharing(1, S.ENDED, None, None, None)),
        (access(owner=3, patient=3, snapshot=3, number=2), end(1), Sharing(2, S.SHARED, 3, None, None)),
        (access(owner=3, patient=3, snapshot=3, expires_at=NOW), None, Sharing(1, S.EXPIRED, None, None, None)),
        (access(patient=3, expires_at=EARLIER), None, Sharing(1, S.EXPIRED, None, None, None)),
        (access(owner=3, patient=3, snapshot=3, expires_at=LATER), None, Sharing(1, S.SHARED, 3, None, None)),
        (access(patient=3, expires_at=EARLIER), end(1), Sharing(1, S.ENDED, None, None, None)),
    ],
)
def test_where_a_sharing_stands(standing: Access, ending: End | None, expected: Sharing) -> None:
    assert sharing_state(standing, ending, NOW) == expected


VERSIONS = st.none() | st.integers(0, 5)
ACCESSES = st.builds(access, VERSIONS, VERSIONS, VERSIONS, st.none() | st.just(LATER), st.integers(1, 4))


@given(ACCESSES, st.integers(0, 5))
def test_nothing_is_readable_or_pending_once_it_has_ended(standing: Access, number: int) -> None:
    sharing = sharing_state(standing, end(number), NOW)
    if number >= standing.number:
        assert (sharing.state, sharing.readable_version, sharing.pending_version) == (S.ENDED, None, None)
    else:
        assert sharing.stands


@given(ACCESSES)
def test_nothing_is_readable_but_the_snapshot_that_is_there(standing: Access) -> None:
    readable = sharing_state(standing, None, NOW).readable_version
    assert readable == (standing.snapshot.version if standing.snapshot else None)


@given(ACCESSES)
def test_what_is_pending_both_have_approved(standing: Access) -> None:
    pending = sharing_state(standing, None, NOW).pending_version
    if pending is not None:
        assert standing.owner_approval is not None
        assert standing.patient_approval is not None
        assert pending == approved_version(standing)
        assert pending <= min(standing.owner_approval.version, standing.patient_approval.version)


@given(ACCESSES, st.none() | st.integers(0, 5))
def test_the_next_number_was_never_used(standing: Access, number: int | None) -> None:
    ending = None if number is None else end(number)
    following = next_number(standing, ending)
    assert following > standing.number
    assert ending is None or following > ending.number


def test_the_first_sharing_has_number_one() -> None:
    assert next_number(None, None) == next_number(None, end(0)) == 1

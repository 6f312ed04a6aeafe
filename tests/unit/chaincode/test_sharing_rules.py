"""How a sharing goes on: single steps, and what holds after any sequence of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from emr_chaincode import sharing_rules
from emr_chaincode.caller import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from emr_model.ledger.purposes import Purpose
from emr_model.ledger.refusals import Refused
from emr_model.ledger.sharing import sharing_state
from emr_model.ledger.values import (
    Access,
    AccessRequest,
    Disclosure,
    End,
    EndReason,
    OwnerApproval,
    PatientApproval,
)
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STAFF = Caller("A", "h-1", Role.HEALTHCENTER, "e" * 64)
READER = Caller("B", "p-9", Role.PHYSICIAN, "f" * 64)
DIGEST = "d" * 64


class Sharings(RuleBasedStateMachine):
    """Any sequence of steps, allowed or refused, by which one recipient's sharing can go, while notes come in and
    time passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.version = 0
        self.access: Access | None = None
        self.end: End | None = None
        self.approved_by_owner: set[tuple[int, int]] = set()
        self.approved_by_patient: set[tuple[int, int]] = set()
        self.ended: set[int] = set()

    @rule()
    def a_note_comes_in(self) -> None:
        self.version += 1

    @rule()
    def time_passes(self) -> None:
        self.now += timedelta(hours=1)

    @rule()
    def b_asks(self) -> None:
        self._step(sharing_rules.request_access, AccessRequest("p-9", Purpose.TREATMENT, self.now))

    @rule()
    def the_owner_approves_the_current_version(self) -> None:
        self._owner_approves(self.version)

    @rule()
    def the_owner_approves_an_older_version(self) -> None:
        self._owner_approves(max(0, self.version - 1))

    @rule()
    def the_patient_approves_for_two_hours(self) -> None:
        self._patient_approves(self.version, self.now + timedelta(hours=2))

    @rule()
    def the_patient_approves_an_older_version(self) -> None:
        self._patient_approves(max(0, self.version - 1), None)

    @rule()
    def the_snapshot_comes(self) -> None:
        for version in range(self.version + 1):
            self._step(sharing_rules.share_snapshot, version, DIGEST, self.now)

    @precondition(lambda self: self.access is not None)
    @rule()
    def it_ends(self) -> None:
        try:
            self.end = sharing_rules.end_by_owner(self.access, self.end, EndReason.WITHDRAWN, STAFF, self.now)
        except Refused as refusal:
            assert refusal.code is Code.SHARING_ENDED
        else:
            self.ended.add(self.end.number)

    @rule()
    def it_is_expired(self) -> None:
        try:
            self.end = sharing_rules.expire(self.access, self.end, STAFF, self.now)
        except Refused as refusal:
            assert refusal.code in {Code.SHARING_ENDED, Code.SHARING_NOT_FOUND, Code.SHARING_NOT_EXPIRED}
        else:
            self.ended.add(self.end.number)

    @invariant()
    def what_can_be_read_both_have_approved_in_this_sharing(self) -> None:
        try:
            access, snapshot = sharing_rules.require_readable(self.access, self.end, self.now)
        except Refused:
            return
        assert access.number not in self.ended
        owners = {version for number, version in self.approved_by_owner if number == access.number}
        patients = {version for number, version in self.approved_by_patient if number == access.number}
        assert snapshot.version in {min(a, b) for a in owners for b in patients}

    @invariant()
    def no_sharing_stands_that_has_ended(self) -> None:
        if self.access is not None and self.access.number in self.ended:
            assert not sharing_state(self.access, self.end, self.now).stands

    def _owner_approves(self, version: int) -> None:
        if self._step(sharing_rules.approve_as_owner, OwnerApproval("h-1", version, "k", self.now), self.version):
            assert self.access is not None
            self.approved_by_owner.add((self.access.number, version))

    def _patient_approves(self, version: int, expires_at: datetime | None) -> None:
        approval = PatientApproval("p-1", version, expires_at, self.now)
        if self._step(sharing_rules.approve_as_patient, approval, self.version):
            assert self.access is not None
            self.approved_by_patient.add((self.access.number, version))

    def _step(self, step: Callable[..., Access], *arguments: object) -> bool:
        before = self.access
        try:
            self.access = step(self.access, self.end, *arguments)
        except Refused:
            return False
        if before is not None and before.number != self.access.number:
            assert not sharing_state(before, self.end, self.now).stands
            assert self.access.number > before.number
            assert self.access.snapshot is None
        return True


TestSharings = Sharings.TestCase
TestSharings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


DISCLOSURE = Disclosure("B", 1, 3, "p-9", Purpose.TREATMENT, NOW)


@pytest.mark.parametrize(
    ("disclosure", "reader", "later", "expected"),
    [
        (None, READER, timedelta(0), Code.RECEIPT_INVALID),
        (DISCLOSURE, Caller("B", "p-8", Role.PHYSICIAN, ""), timedelta(0), Code.RECEIPT_INVALID),
        (DISCLOSURE, Caller("C", "p-9", Role.PHYSICIAN, ""), timedelta(0), Code.RECEIPT_INVALID),
        (DISCLOSURE, READER, timedelta(minutes=15), None),
        (DISCLOSURE, READER, timedelta(minutes=15, microseconds=1), Code.RECEIPT_EXPIRED),
    ],
)
def test_a_receipt_is_its_readers_and_lasts_a_quarter_of_an_hour(
    disclosure: Disclosure | None, reader: Caller, later: timedelta, expected: Code | None
) -> None:
    try:
        sharing_rules.require_receipt(disclosure, reader, NOW + later)
    except Refused as refusal:
        assert refusal.code is expected
    else:
        assert expected is None


def test_an_expiry_at_the_approvals_own_moment_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        sharing_rules.approve_as_patient(None, None, PatientApproval("p-1", 0, NOW, NOW), 0)
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_an_approval_that_nobody_means_is_told_the_current_version() -> None:
    with pytest.raises(Refused) as caught:
        sharing_rules.approve_as_owner(None, None, OwnerApproval("h-1", 2, "k", NOW), 5)
    assert (caught.value.code, caught.value.version) == (Code.APPROVAL_VERSION_UNKNOWN, 5)

"""Which hospitals are asked to endorse a write: as the contract's definition in force on the channel says.

Where its policy names hospitals, all of them are asked. Where it is the channel's own, a majority, all are asked as
well while they answer; a write then goes on without those who do not, but never without the hospitals that it is about:
the owner of an EMR endorses every write about it, whatever the policy would allow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from emr_model.ledger.functions import Endorsers, Function
from hlf import policies
from hlf.admin.lifecycle import Lifecycle
from hlf.gateway import Gateway
from hlf.identity import Signer

FRESH_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 5.0
ABSENT_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
"""So long a hospital that did not answer, once, twice, … in a row, is not asked where a write can do without it."""
SILENT_SECONDS = 30.0
"""So long after it did not answer a hospital is expected to be silent still: a write waits for it only shortly."""
SHORT_SECONDS = 2.5


@dataclass(frozen=True)
class Membership:
    """The hospitals that can endorse, how many of them a write needs, and all that there are."""

    msp_ids: frozenset[str]
    needed: int
    known: frozenset[str]


@dataclass(frozen=True)
class Silence:
    """Of a hospital that did not answer. Moments are monotonic seconds."""

    repeated: int
    """How many times in a row it had not answered before."""
    expected_until: float
    """It is waited for shortly. Only a silence that was waited for as long as is usual makes another one expected."""
    absent_until: float
    """It is not asked where a write can do without it."""


class EndorserChoice:
    """One a process. Raises what the own peer's answer about the definition raises: HlfError."""

    def __init__(self, gateway: Gateway, service: Signer, channel: str, chaincode: str) -> None:
        self._gateway = gateway
        self._service = service
        self._channel = channel
        self._chaincode = chaincode
        self._known: Membership | None = None
        self._known_at = 0.0
        self._silences: dict[str, Silence] = {}

    async def of(self, function: Function, arguments: Sequence[str | bytes]) -> tuple[str, ...]:
        """MSP ids, the own one first."""
        if function.spec.endorsers is not Endorsers.ALL:
            return (self._service.msp_id,)
        membership, required = await self._membership(), self._required(function, arguments)
        if required - membership.known and time.monotonic() - self._known_at > LOOK_AGAIN_SECONDS:
            self.look_again()
            membership = await self._membership()
        required &= membership.known | {self._service.msp_id}  # of one that nobody knows the contract says so
        present = membership.msp_ids - (self._absent() - required)
        chosen = (present if len(present) >= membership.needed else membership.msp_ids) | required
        return (self._service.msp_id, *sorted(chosen - {self._service.msp_id}))

    async def can_do_without(
        self, missing: frozenset[str], function: Function, arguments: Sequence[str | bytes]
    ) -> bool:
        """Whether a write may be endorsed without those who did not answer."""
        if function.spec.endorsers is not Endorsers.ALL or not missing:
            return False
        membership = await self._membership()
        if missing & self._required(function, arguments):
            return False
        return len(membership.msp_ids - missing) >= membership.needed

    def seconds_for(self, endorsers: Sequence[str]) -> float | None:
        """How long an endorsement by all of these is waited for: None is the usual time."""
        return SHORT_SECONDS if self.expected_silent(endorsers) else None

    def expected_silent(self, endorsers: Sequence[str]) -> frozenset[str]:
        now = time.monotonic()
        return frozenset(one for one in endorsers if one in self._silences and self._silences[one].expected_until > now)

    def did_not_answer(self, missing: frozenset[str], *, shortly: bool) -> None:
        """Told of those who were waited for as long as is usual, or ``shortly``."""
        now = time.monotonic()
        for msp_id in missing - {self._service.msp_id}:
            known = self._silences.get(msp_id)
            repeated = 0 if known is None else known.repeated + 1
            expected_until = known.expected_until if shortly and known is not None else now + SILENT_SECONDS
            absent_seconds = ABSENT_SECONDS[min(repeated, len(ABSENT_SECONDS) - 1)]
            self._silences[msp_id] = Silence(repeated, expected_until, now + absent_seconds)

    def answered(self, endorsers: Sequence[str]) -> None:
        for msp_id in endorsers:
            self._silences.pop(msp_id, None)

    def _absent(self) -> frozenset[str]:
        now = time.monotonic()
        return frozenset(msp_id for msp_id, silence in self._silences.items() if silence.absent_until > now)

    async def asks_everybody(self) -> bool:
        """Whether the ledger itself lets no write pass that a hospital, and so an EMR's owner, did not endorse."""
        membership = await self._membership()
        return membership.needed == len(membership.msp_ids) and self._service.msp_id in membership.msp_ids

    def look_again(self) -> None:
        """The definition may have changed: a hospital that has joined since is missed as an endorser."""
        self._known = None

    def _required(self, function: Function, arguments: Sequence[str | bytes]) -> frozenset[str]:
        named = dict(zip(function.spec.arguments, arguments, strict=False))
        others = (named.get(argument) for argument in function.spec.endorsed_by)
        return frozenset({self._service.msp_id, *(one for one in others if isinstance(one, str))})

    async def _membership(self) -> Membership:
        if self._known is None or time.monotonic() - self._known_at > FRESH_SECONDS:
            self._known = await self._read()
            self._known_at = time.monotonic()
        return self._known

    async def _read(self) -> Membership:
        committed = await Lifecycle(self._gateway, self._service, self._channel).committed(self._chaincode)
        if committed is None:  # then no peer has the contract, and the endorsement will say so
            own = frozenset({self._service.msp_id})
            return Membership(own, 1, own)
        policy = committed.definition.policy
        if isinstance(policy, bytes):
            named = frozenset(policies.members(policy))
            return Membership(named, len(named), named)
        approved = frozenset(msp_id for msp_id, is_approved in committed.approvals.items() if is_approved)
        return Membership(approved, len(committed.approvals) // 2 + 1, frozenset(committed.approvals))

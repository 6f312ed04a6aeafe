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
ABSENT_SECONDS = 5.0
"""So long a hospital that did not answer is not asked again, where a write can do without it."""


@dataclass(frozen=True)
class Membership:
    """The hospitals that can endorse, how many of them a write needs, and all that there are."""

    msp_ids: frozenset[str]
    needed: int
    known: frozenset[str]


class EndorserChoice:
    """One a process. Raises what the own peer's answer about the definition raises: HlfError."""

    def __init__(self, gateway: Gateway, service: Signer, channel: str, chaincode: str) -> None:
        self._gateway = gateway
        self._service = service
        self._channel = channel
        self._chaincode = chaincode
        self._known: Membership | None = None
        self._known_at = 0.0
        self._absent: dict[str, float] = {}

    async def of(self, function: Function, arguments: Sequence[str | bytes]) -> tuple[str, ...]:
        """MSP ids, the own one first."""
        if function.spec.endorsers is not Endorsers.ALL:
            return (self._service.msp_id,)
        membership, required = await self._membership(), self._required(function, arguments)
        if required - membership.known and time.monotonic() - self._known_at > ABSENT_SECONDS:
            self.look_again()
            membership = await self._membership()
        required &= membership.known | {self._service.msp_id}  # of one that nobody knows the contract says so
        absent = {msp_id for msp_id, until in self._absent.items() if until > time.monotonic()} - required
        present = membership.msp_ids - absent
        chosen = (present if len(present) >= membership.needed else membership.msp_ids) | required
        return (self._service.msp_id, *sorted(chosen - {self._service.msp_id}))

    async def can_do_without(
        self, missing: frozenset[str], function: Function, arguments: Sequence[str | bytes]
    ) -> bool:
        """Notes who did not answer; whether the write may be endorsed by the others."""
        if function.spec.endorsers is not Endorsers.ALL or not missing:
            return False
        membership = await self._membership()
        if missing & self._required(function, arguments):
            return False
        if len(membership.msp_ids - missing) < membership.needed:
            return False
        self._absent |= dict.fromkeys(missing, time.monotonic() + ABSENT_SECONDS)
        return True

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

"""Who may call what: Fabric's default access control lists, judged by the channel's policies."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from hlf_devnet.msp import IdentityError, MspRegistry, VerifiedIdentity
from hlf_devnet.policy import ChannelPolicies

READERS: Final = "/Channel/Application/Readers"
WRITERS: Final = "/Channel/Application/Writers"
REVOCATIONS_SECONDS: Final = 0.05
TIME_WINDOW_SECONDS: Final = 900.0


class AccessDenied(Exception):
    """The caller's signature or identity does not satisfy the policy of what it called."""


class AccessControl:
    """Checks for one channel. Nothing here looks at expiry but `is_expired`: where Fabric refuses expired callers
    differs from service to service. `time_window_seconds`: how far a message's timestamp may be from now."""

    def __init__(
        self,
        channel: str,
        msps: MspRegistry,
        policies: ChannelPolicies,
        time_window_seconds: float = TIME_WINDOW_SECONDS,
    ) -> None:
        self.channel = channel
        self.msps = msps
        self.policies = policies
        self.time_window_seconds = time_window_seconds
        self._revocations_due = 0.0

    @property
    def organizations(self) -> tuple[str, ...]:
        return self.policies.application_organizations

    def identify(self, identity: bytes) -> VerifiedIdentity:
        """The member, by the revocation lists of at most 50 ms ago; raises IdentityError."""
        now = time.monotonic()
        if now >= self._revocations_due:
            self._revocations_due = now + REVOCATIONS_SECONDS
            self.msps.reload_revocations()
        return self.msps.validate(identity)

    def is_timely(self, timestamp: Any) -> bool:
        """Of a `google.protobuf.Timestamp`; a missing one is that of 1970."""
        sent = timestamp.seconds + timestamp.nanos / 1e9
        return bool(abs(time.time() - sent) <= self.time_window_seconds)

    def check(self, policy: str, identity: bytes, message: bytes, signature: bytes) -> VerifiedIdentity:
        """The caller, who signed `message` and satisfies `policy`; raises AccessDenied."""
        try:
            caller = self.identify(identity)
        except IdentityError as error:
            raise self._denied(policy) from error
        if not self.msps.verify(caller, message, signature):
            raise self._denied(policy)
        self.check_policy(policy, caller)
        return caller

    def check_policy(self, policy: str, caller: VerifiedIdentity) -> None:
        if not self.policies.evaluate(policy, [caller]):
            raise self._denied(policy)

    def _denied(self, policy: str) -> AccessDenied:
        name = policy.rpartition("/")[2]
        return AccessDenied(
            f"Failed evaluating policy on signed data during check policy on channel [{self.channel}] with policy "
            f"[{policy}]: [implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires "
            f"1 of the '{name}' sub-policies to be satisfied]"
        )


def is_expired(caller: VerifiedIdentity) -> bool:
    return datetime.now(UTC) > caller.not_after

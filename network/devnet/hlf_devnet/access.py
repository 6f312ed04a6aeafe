"""Who may call what: Fabric's default access control lists, judged by the channel's policies."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from hlf_devnet.bundle import ChannelBundle
from hlf_devnet.msp import IdentityError, MspRegistry, VerifiedIdentity
from hlf_devnet.policy import ChannelPolicies, PolicyError

READERS: Final = "/Channel/Application/Readers"
WRITERS: Final = "/Channel/Application/Writers"
CHANNEL_READERS: Final = "/Channel/Readers"
_READING: Final = (
    *("qscc/GetChainInfo", "qscc/GetBlockByNumber", "qscc/GetBlockByHash", "qscc/GetTransactionByID"),
    *("qscc/GetBlockByTxID", "cscc/GetConfigBlock", "cscc/GetChannelConfig", "event/Block", "event/FilteredBlock"),
    *("gateway/CommitStatus", "gateway/ChaincodeEvents"),
)
_WRITING: Final = (
    *("peer/Propose", "peer/ChaincodeToChaincode", "_lifecycle/CommitChaincodeDefinition"),
    *("_lifecycle/QueryChaincodeDefinition", "_lifecycle/QueryChaincodeDefinitions", "_lifecycle/CheckCommitReadiness"),
)
DEFAULT_POLICIES: Final = dict.fromkeys(_READING, READERS) | dict.fromkeys(_WRITING, WRITERS)
"""The policy of each resource whose access a channel's ACLs may change (`core/aclmgmt/defaultaclprovider.go`)."""
REVOCATIONS_SECONDS: Final = 0.05
TIME_WINDOW_SECONDS: Final = 900.0


class AccessDenied(Exception):
    """The caller's signature or identity does not satisfy the policy of what it called."""


class AccessControl:
    """Checks for one channel, by the configuration that is in force for whoever asks: `bundle` gives it. Nothing here
    looks at expiry but `is_expired`: where Fabric refuses expired callers differs from service to service.
    `time_window_seconds`: how far a message's timestamp may be from now."""

    def __init__(
        self, channel: str, bundle: Callable[[], ChannelBundle], time_window_seconds: float = TIME_WINDOW_SECONDS
    ) -> None:
        self.channel = channel
        self.time_window_seconds = time_window_seconds
        self._bundle = bundle
        self._revocations_due = 0.0

    @property
    def bundle(self) -> ChannelBundle:
        return self._bundle()

    @property
    def msps(self) -> MspRegistry:
        return self._bundle().msps

    @property
    def policies(self) -> ChannelPolicies:
        return self._bundle().policies

    @property
    def organizations(self) -> tuple[str, ...]:
        return self._bundle().organizations

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

    def check(self, resource: str, identity: bytes, message: bytes, signature: bytes) -> VerifiedIdentity:
        """The caller, who signed `message` and may use `resource`: one of DEFAULT_POLICIES, or the path of a policy.
        Raises AccessDenied."""
        try:
            caller = self.identify(identity)
        except IdentityError as error:
            raise self._denied(self._policy_of(resource)) from error
        if not self.msps.verify(caller, message, signature):
            raise self._denied(self._policy_of(resource))
        self.check_resource(resource, caller)
        return caller

    def check_resource(self, resource: str, caller: VerifiedIdentity) -> None:
        policy = self._policy_of(resource)
        try:
            allowed = self.policies.evaluate(policy, [caller])
        except PolicyError as error:
            raise AccessDenied(f"failed evaluating policy [{policy}]: {error}") from error
        if not allowed:
            raise self._denied(policy)

    def _policy_of(self, resource: str) -> str:
        if resource.startswith("/"):
            return resource
        return self.bundle.acls.get(resource) or DEFAULT_POLICIES[resource]

    def _denied(self, policy: str) -> AccessDenied:
        return AccessDenied(
            f"Failed evaluating policy on signed data during check policy on channel [{self.channel}] with policy "
            f"[{policy}]: [{self.policies.why_not(policy, [])}]"
        )


def is_expired(caller: VerifiedIdentity) -> bool:
    return datetime.now(UTC) > caller.not_after

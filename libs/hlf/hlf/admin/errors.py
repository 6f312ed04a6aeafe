"""What goes wrong in administration. Each says what to do next."""

import re
from typing import Self

from fabric_protos.common import common_pb2

from hlf.errors import HlfError

_STALE = re.compile(r"error validating ReadSet|but key is at version")
_UNSATISFIED = re.compile(r"policy for (\[\w+\] +\S+) not satisfied")


class ConfigurationInvalid(HlfError):
    """A channel configuration that Fabric would accept and nobody could use or change, or that it would refuse."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class SignaturesMissing(HlfError):
    """A configuration update has too few signatures: `missing` are the MSP ids that could still sign."""

    def __init__(self, policy: str, missing: list[str]) -> None:
        super().__init__(f"{policy} is not satisfied; still to sign: {', '.join(missing) or 'nobody who could'}")
        self.missing = tuple(missing)


class BroadcastRefused(HlfError):
    """An orderer did not take an envelope. `status` is a `common.Status`, `info` what the orderer says about it."""

    def __init__(self, status: int, info: str) -> None:
        name = common_pb2.Status.Name(status) if status in common_pb2.Status.values() else str(status)
        super().__init__(f"the orderer refused: {name}: {info}", retriable=status >= common_pb2.INTERNAL_SERVER_ERROR)
        self.status = status
        self.info = info

    @property
    def is_stale(self) -> bool:
        """Whether the configuration has changed since the update was computed: compute it again."""
        return _STALE.search(self.info) is not None

    @property
    def unsatisfied(self) -> str | None:
        """The element that too few have signed to change, such as `[Group]  /Channel/Application`; None if that is not
        why."""
        found = _UNSATISFIED.search(self.info)
        return found.group(1) if found else None


class ParticipationError(HlfError):
    """An orderer refused to join, or does not take part as it should."""


class PeerRefused(HlfError):
    """A peer refused what an administrator asked of it."""


class LifecycleError(HlfError):
    """A step of the chaincode lifecycle was refused."""

    @classmethod
    def of(cls, error: HlfError) -> Self:
        """What the gateway said, as a failure of the lifecycle."""
        return cls(
            error.message,
            transaction_id=error.transaction_id,
            code=error.code,
            details=error.details,
            retriable=error.retriable,
        )


class PackageInvalid(HlfError):
    """Bytes that are no chaincode package."""

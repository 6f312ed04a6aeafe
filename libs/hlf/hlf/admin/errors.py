"""What goes wrong in administration. Each says what to do next."""

from typing import Self

from hlf.errors import HlfError


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

"""One error class for each step that can fail, with what Fabric said about it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, cast

import grpc
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import transaction_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""The trailer in which gRPC servers send a `google.rpc.Status`."""

_CHAINCODE_RESPONSE = re.compile(r"chaincode response (\d{3}), ?(.*)", re.DOTALL)
_MISSING_ORGANIZATIONS = re.compile(r"failed to find any endorsing peers for org\(s\): (.+)")
# A peer that gave no answer, or whose chaincode gave none (internal/pkg/gateway/apiutils.go, core/chaincode).
_NO_ANSWER = re.compile(
    r"code = (?:Unavailable|DeadlineExceeded)\b|could not launch chaincode|chaincode stream terminated"
    r"|timeout expired while executing transaction|failed to execute transaction .*: (?:error sending|connection to)"
)
# A peer's endorser, its filters, or an orderer (core/endorser, core/handlers/auth, orderer/common/msgprocessor).
_CREATOR_REFUSED = re.compile(
    r"access denied: channel \[[^]]*\] creator org|client identity expired|check policy on channel"
    r"|from orderer: status=FORBIDDEN|stream of blocks ended: FORBIDDEN"
)
_TOO_MANY_REQUESTS = "too many requests"
_PASSING_CODES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What one peer or orderer said when it failed."""

    address: str
    msp_id: str
    message: str


class HlfError(Exception):
    """Something asked of a Fabric network failed.

    `transaction_id` is that of the transaction concerned, `code` the gRPC status, `details` what each failing peer or
    orderer answered. `retriable`: the same step, asked again a little later, may succeed and does no harm.
    """

    def __init__(
        self,
        message: str,
        *,
        transaction_id: str | None = None,
        code: grpc.StatusCode | None = None,
        details: tuple[ErrorDetail, ...] = (),
        retriable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.transaction_id = transaction_id
        self.code = code
        self.details = details
        self.retriable = retriable

    @classmethod
    def from_rpc(cls, error: grpc.aio.AioRpcError, *, transaction_id: str | None = None) -> Self:
        """What a failed call says, with the details that the gateway put into the trailer."""
        text, code = error.details() or "", error.code()
        details = error_details(error)
        message = f"{code.name}: {text}" if text else code.name
        retriable = code in _PASSING_CODES or is_over_limit(code, text, details)
        return cls(message, transaction_id=transaction_id, code=code, details=details, retriable=retriable)

    def __str__(self) -> str:
        of = f" [transaction {self.transaction_id}]" if self.transaction_id else ""
        said = "".join(f"; {detail.msp_id} {detail.address}: {detail.message}" for detail in self.details)
        return f"{self.message}{of}{said}"

    @property
    def chaincode_response(self) -> tuple[int, str] | None:
        """Status and message that the chaincode answered, None if the failure was not its answer.

        When peers disagree it is the first answer; the gateway lists them in no particular order.
        """
        for text in (*(detail.message for detail in self.details), self.message):
            if match := _CHAINCODE_RESPONSE.search(text):
                return int(match.group(1)), match.group(2)
        return None

    @property
    def unavailable_organizations(self) -> frozenset[str]:
        """MSP ids of organizations whose peer, or whose chaincode, could not be reached."""
        silent = {detail.msp_id for detail in self.details if _NO_ANSWER.search(detail.message)}
        if match := _MISSING_ORGANIZATIONS.search(self.message):
            silent.update(name.strip() for name in match.group(1).split(","))
        return frozenset(silent)

    @property
    def is_creator_refused(self) -> bool:
        """Whether the certificate that signed is not, or no longer, one that may do this on the channel: revoked,
        expired, of no member or of none that writes. A signature that is not its key's is told in the same words."""
        return self.chaincode_response is None and _CREATOR_REFUSED.search(str(self)) is not None


class ConnectionFailed(HlfError):
    """No gateway peer could be reached. Nothing was sent."""


class EvaluateError(HlfError):
    """A query was not answered. A query changes nothing: it may always be asked again."""


class EndorseError(HlfError):
    """A proposal was not endorsed. Nothing was submitted: a new proposal may be made."""


class SubmitError(HlfError):
    """A transaction was not accepted for ordering, or it is not known whether it was (`is_outcome_unknown`).

    A transaction whose outcome is unknown may still commit: wait for it or look it up by its id. Never make another one
    in its place. The same bytes may be sent again: of two transactions with one id the ledger takes the first.
    """

    @property
    def is_outcome_unknown(self) -> bool:
        """Whether the transaction may have reached an orderer all the same."""
        if isinstance(self.__cause__, ConnectionFailed) or is_over_limit(self.code, self.message, self.details):
            return False
        if "no orderer nodes available" in self.message:
            return False
        return self.code not in _REFUSALS


class CommitStatusError(HlfError):
    """The gateway did not tell whether a transaction was committed."""


class CommitUnknown(HlfError):
    """Whether a transaction was committed could not be found out in time. It may still be: look it up by its id."""


class TransactionInvalid(HlfError):
    """A transaction stands in a block, marked invalid: it changed nothing.

    After MVCC_READ_CONFLICT or PHANTOM_READ_CONFLICT (`retriable`) a new proposal, made from fresh reads, may succeed.
    """

    def __init__(self, transaction_id: str, validation_code: int, block_number: int | None = None) -> None:
        name = validation_name(validation_code)
        retriable = name in {"MVCC_READ_CONFLICT", "PHANTOM_READ_CONFLICT"}
        super().__init__(f"invalid: {name}", transaction_id=transaction_id, retriable=retriable)
        self.validation_code = validation_code
        self.validation_name = name
        self.block_number = block_number

    @property
    def is_creator_refused(self) -> bool:
        """The certificate was good when the transaction was ordered at the latest, and not in its block any more."""
        return self.validation_name == "BAD_CREATOR_SIGNATURE"


class DeliverError(HlfError):
    """A stream of blocks ended before its end, or brought a block that does not fit the chain.

    `is_chain_broken`: what was delivered is not what it should be. Asking again does not help; someone must look.
    """

    def __init__(
        self,
        message: str,
        *,
        transaction_id: str | None = None,
        code: grpc.StatusCode | None = None,
        details: tuple[ErrorDetail, ...] = (),
        retriable: bool = False,
        is_chain_broken: bool = False,
    ) -> None:
        super().__init__(message, transaction_id=transaction_id, code=code, details=details, retriable=retriable)
        self.is_chain_broken = is_chain_broken


class CaError(HlfError):
    """A certificate authority refused or gave no answer.

    `http_status` is that of its answer, `ca_code` fabric-ca's own number (`lib/caerrors`); None where there was none.
    """

    def __init__(
        self, message: str, *, http_status: int | None = None, ca_code: int | None = None, retriable: bool = False
    ) -> None:
        super().__init__(message, retriable=retriable)
        self.http_status = http_status
        self.ca_code = ca_code


_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


def error_details(error: grpc.aio.AioRpcError) -> tuple[ErrorDetail, ...]:
    """The `gateway.ErrorDetail` messages of a failed call; empty when the gateway peer itself failed."""
    trailer: Iterable[tuple[str, bytes | str]] = cast("Any", error.trailing_metadata()) or ()
    packed = next((value for key, value in trailer if key == STATUS_DETAILS_KEY), b"")
    return _parse_details(packed)


def is_over_limit(code: grpc.StatusCode | None, message: str, details: tuple[ErrorDetail, ...] = ()) -> bool:
    """Whether a peer turned the call away unread because it has too many open.

    Fabric answers UNKNOWN, not RESOURCE_EXHAUSTED (`internal/peer/node/grpc_limiters.go`); an endorser's own limit
    stands in the details.
    """
    if code is grpc.StatusCode.UNKNOWN and _TOO_MANY_REQUESTS in message:
        return True
    return any(_TOO_MANY_REQUESTS in detail.message and "concurrency limit" in detail.message for detail in details)


def validation_name(code: int) -> str:
    """Fabric's name of a validation code, such as "VALID" or "MVCC_READ_CONFLICT"; "CODE_n" for one unknown here."""
    try:
        return str(transaction_pb2.TxValidationCode.Name(code))
    except ValueError:
        return f"CODE_{code}"


def _parse_details(value: bytes | str) -> tuple[ErrorDetail, ...]:
    try:
        status = status_pb2.Status.FromString(value)
        return tuple(_details_in(status))
    except DecodeError:
        return ()


def _details_in(status: status_pb2.Status) -> list[ErrorDetail]:
    found = []
    for packed in status.details:
        detail = gateway_pb2.ErrorDetail()
        if packed.Is(detail.DESCRIPTOR) and packed.Unpack(detail):
            found.append(ErrorDetail(detail.address, detail.msp_id, detail.message))
    return found

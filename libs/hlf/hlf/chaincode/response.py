"""What a chaincode answers, and what it is."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hlf.chaincode.stub import Stub

OK = 200
FIRST_FAILURE = 400
INTERNAL_ERROR = 500


@dataclass(frozen=True, slots=True)
class Response:
    """`peer.Response`. Endorsers sign a status below 400 only."""

    status: int = OK
    message: str = ""
    payload: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return self.status < FIRST_FAILURE


class Chaincode(Protocol):
    """One object serves all transactions, many at a time: it keeps no state of a transaction in itself.

    Raising `ContractError` refuses. Any other exception fails that one transaction with status 500 and its class's
    name, without its text, which could hold content.
    """

    def invoke(self, stub: "Stub") -> Awaitable[Response]: ...


class InitializedChaincode(Chaincode, Protocol):
    """A chaincode whose definition asks for initialization."""

    def init(self, stub: "Stub") -> Awaitable[Response]: ...

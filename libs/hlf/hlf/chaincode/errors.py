"""What can go wrong in a chaincode, one class a cause. No text here carries an argument, a key or a value."""


class ChaincodeError(Exception):
    """Base of what the shim raises."""


class ContractError(ChaincodeError):
    """The chaincode refuses: the transaction is answered with `status` (400 and above) and ``CODE: text``.

    Endorsers sign no such answer, and nothing that the transaction wrote is kept.
    """

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        if not 400 <= status <= 599:
            raise ValueError("a refusal has a status from 400 to 599")
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.status = status


class PeerRefused(ChaincodeError):
    """The peer answered a state request with an error, such as a query after a write. `message` is the peer's text."""

    def __init__(self, request: str, message: str) -> None:
        super().__init__(f"the peer refused {request}")
        self.request = request
        self.message = message


class AddressInUse(ChaincodeError):
    """The server cannot listen where it was told to."""


class ProtocolViolation(ChaincodeError):
    """The peer sent what the chaincode protocol does not allow here."""


class StreamClosed(ChaincodeError):
    """The connection to the peer ended while a transaction was at work."""


class ProposalMalformed(ChaincodeError):
    """The proposal that came with a transaction cannot be read."""

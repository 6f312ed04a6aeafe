"""Write Fabric chaincode in Python, asynchronous and as a service.

A chaincode is an object with ``async def invoke(self, stub: Stub) -> Response``; `ChaincodeServer` serves it to
peers. See `Stub` for what it can read and write, `ContractError` for how it refuses.
"""

from hlf.chaincode.errors import (
    AddressInUse,
    ChaincodeError,
    ContractError,
    PeerRefused,
    ProposalMalformed,
    ProtocolViolation,
    StreamClosed,
)
from hlf.chaincode.iterators import ResultIterator
from hlf.chaincode.keys import composite_key, split_composite_key
from hlf.chaincode.requests import KeyModification, KeyValue, Page
from hlf.chaincode.response import Chaincode, InitializedChaincode, Response
from hlf.chaincode.server import ChaincodeServer, ServerTls, serve
from hlf.chaincode.stub import Stub

__all__ = [
    "AddressInUse",
    "Chaincode",
    "ChaincodeError",
    "ChaincodeServer",
    "ContractError",
    "InitializedChaincode",
    "KeyModification",
    "KeyValue",
    "Page",
    "PeerRefused",
    "ProposalMalformed",
    "ProtocolViolation",
    "Response",
    "ResultIterator",
    "ServerTls",
    "StreamClosed",
    "Stub",
    "composite_key",
    "serve",
    "split_composite_key",
]

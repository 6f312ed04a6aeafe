"""The headers that open every signed message of a channel."""

import os
import time
from dataclasses import dataclass

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2

from hlf.crypto import sha256
from hlf.identity import Creator

NONCE_BYTES = 24


@dataclass(frozen=True, slots=True)
class Headers:
    """Serialized channel header and signature header, and the transaction id that follows from the latter."""

    transaction_id: str
    channel_header: bytes
    signature_header: bytes

    @property
    def serialized(self) -> bytes:
        header = common_pb2.Header(channel_header=self.channel_header, signature_header=self.signature_header)
        return bytes(header.SerializeToString())


def new_headers(creator: Creator, channel: str, header_type: int, chaincode: str | None = None) -> Headers:
    """Headers with a fresh nonce and the present time."""
    nonce = os.urandom(NONCE_BYTES)
    transaction_id = transaction_id_of(nonce, creator.serialized)
    header = common_pb2.ChannelHeader(
        type=header_type,
        channel_id=channel,
        tx_id=transaction_id if chaincode else "",
        extension=_chaincode_extension(chaincode) if chaincode else b"",
    )
    header.timestamp.FromNanoseconds(time.time_ns())
    signature_header = common_pb2.SignatureHeader(creator=creator.serialized, nonce=nonce)
    return Headers(transaction_id, header.SerializeToString(), signature_header.SerializeToString())


def transaction_id_of(nonce: bytes, creator: bytes) -> str:
    """A transaction's id is the hash of its nonce and its serialized creator (`protoutil.ComputeTxID`)."""
    return sha256(nonce, creator).hex()


def _chaincode_extension(chaincode: str) -> bytes:
    identifier = chaincode_pb2.ChaincodeID(name=chaincode)
    return bytes(proposal_pb2.ChaincodeHeaderExtension(chaincode_id=identifier).SerializeToString())

"""The two hashes that chain blocks."""

from collections.abc import Iterable

from hlf.crypto import sha256

_INTEGER, _OCTET_STRING, _SEQUENCE = 0x02, 0x04, 0x30


def block_header_hash(number: int, previous_hash: bytes, data_hash: bytes) -> bytes:
    """What the next block holds as `previous_hash`: SHA-256 of `block_header_bytes`."""
    return sha256(block_header_bytes(number, previous_hash, data_hash))


def block_header_bytes(number: int, previous_hash: bytes, data_hash: bytes) -> bytes:
    """ASN.1 DER of SEQUENCE{INTEGER number, OCTET STRING previous_hash, OCTET STRING data_hash}
    (`protoutil.BlockHeaderBytes`). Orderers sign these bytes too."""
    content = _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))
    content += _der(_OCTET_STRING, previous_hash) + _der(_OCTET_STRING, data_hash)
    return _der(_SEQUENCE, content)


def block_data_hash(envelopes: Iterable[bytes]) -> bytes:
    """SHA-256 over the serialized envelopes, one after the other (`protoutil.ComputeBlockDataHash`)."""
    return sha256(*envelopes)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content

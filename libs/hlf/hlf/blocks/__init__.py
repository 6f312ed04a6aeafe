"""What stands in blocks: transactions, who made and endorsed them, and what they wrote."""

from hlf.blocks.composite_keys import composite_key, split_composite_key
from hlf.blocks.decode import decode_block, decode_filtered_block, decode_payload
from hlf.blocks.hashes import block_data_hash, block_header_bytes, block_header_hash
from hlf.blocks.model import (
    NOT_VALIDATED,
    VALID,
    Block,
    BlockTransaction,
    ChaincodeEvent,
    Checkpoint,
    CollectionWrite,
    FilteredBlock,
    FilteredTransaction,
    MetadataWrite,
    PrivateWrite,
    Read,
    Write,
)

__all__ = [
    "NOT_VALIDATED",
    "VALID",
    "Block",
    "BlockTransaction",
    "ChaincodeEvent",
    "Checkpoint",
    "CollectionWrite",
    "FilteredBlock",
    "FilteredTransaction",
    "MetadataWrite",
    "PrivateWrite",
    "Read",
    "Write",
    "block_data_hash",
    "block_header_bytes",
    "block_header_hash",
    "composite_key",
    "decode_block",
    "decode_filtered_block",
    "decode_payload",
    "split_composite_key",
]

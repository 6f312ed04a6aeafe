"""A chaincode that does what it is told, so that tests choose what happens on the ledger.

Run as a process: `python -m support.conformance_chaincode HOST:PORT CHAINCODE_ID`. Answers are JSON; values are text.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from hlf.blocks import composite_key, split_composite_key
from hlf.chaincode import ChaincodeServer, ContractError, PeerRefused, Response, Stub, serve
from hlf.policies import parse

Function = Callable[[Stub, list[str]], Awaitable[Any]]


class ConformanceChaincode:
    """`answer_suffix` makes one organization's answers differ from another's. What the peer refuses is answered."""

    def __init__(self, answer_suffix: str = "") -> None:
        self.answer_suffix = answer_suffix

    async def invoke(self, stub: Stub) -> Response:
        function = FUNCTIONS.get(stub.function)
        if function is None:
            raise ContractError("UNKNOWN_FUNCTION", stub.function, 400)
        try:
            answer = await function(stub, [argument.decode() for argument in stub.args])
        except PeerRefused as refused:
            return Response(500, refused.message)
        text = answer if isinstance(answer, str) else json.dumps(answer, sort_keys=True)
        return Response(payload=(text + self.answer_suffix).encode())


async def put(stub: Stub, args: list[str]) -> Any:
    """key value [key value …]"""
    for key, value in zip(args[::2], args[1::2], strict=True):
        stub.put_state(key, value.encode())
    return args[-1]


async def get(stub: Stub, args: list[str]) -> Any:
    return _text(await stub.get_state(args[0]))


async def get_many(stub: Stub, args: list[str]) -> Any:
    return [_text(value) for value in await stub.get_states(args)]


async def increment(stub: Stub, args: list[str]) -> Any:
    """Reads a counter and writes the next number: two of them in one block conflict."""
    number = int(_text(await stub.get_state(args[0])) or "0") + 1
    stub.put_state(args[0], str(number).encode())
    return number


async def read_own_write(stub: Stub, args: list[str]) -> Any:
    stub.put_state(args[0], b"new")
    return _text(await stub.get_state(args[0]))


async def delete(stub: Stub, args: list[str]) -> Any:
    for key in args:
        stub.del_state(key)
    return None


async def range_(stub: Stub, args: list[str]) -> Any:
    return [[item.key, item.value.decode()] async for item in stub.get_state_by_range(*args)]


async def range_then_put(stub: Stub, args: list[str]) -> Any:
    """start end key: writes the number of keys in the range, so a new key in it is a phantom."""
    found = [item.key async for item in stub.get_state_by_range(args[0], args[1])]
    stub.put_state(args[2], str(len(found)).encode())
    return len(found)


async def page(stub: Stub, args: list[str]) -> Any:
    start, end, size, bookmark = args
    found = await stub.get_state_page(start, end, page_size=int(size), bookmark=bookmark)
    return {"keys": [item.key for item in found.items], "bookmark": found.bookmark}


async def history(stub: Stub, args: list[str]) -> Any:
    return [[item.value.decode(), item.is_delete] async for item in stub.get_history_for_key(args[0])]


async def put_private(stub: Stub, args: list[str]) -> Any:
    """collection key: the value is the transient `value`."""
    stub.put_private_data(args[0], args[1], stub.transient["value"])
    return None


async def put_both(stub: Stub, args: list[str]) -> Any:
    """collection key public-key: a private value from transient data, and public state."""
    stub.put_private_data(args[0], args[1], stub.transient["value"])
    stub.put_state(args[2], b"written with private data")
    return None


async def get_private(stub: Stub, args: list[str]) -> Any:
    return _text(await stub.get_private_data(args[0], args[1]))


async def private_hash(stub: Stub, args: list[str]) -> Any:
    found = await stub.get_private_data_hash(args[0], args[1])
    return found.hex() if found else None


async def private_range(stub: Stub, args: list[str]) -> Any:
    return [[item.key, item.value.decode()] async for item in stub.get_private_data_by_range(*args)]


async def delete_private(stub: Stub, args: list[str]) -> Any:
    stub.del_private_data(args[0], args[1])
    return None


async def purge_private(stub: Stub, args: list[str]) -> Any:
    stub.purge_private_data(args[0], args[1])
    return None


async def set_policy(stub: Stub, args: list[str]) -> Any:
    """key policy: a key-level endorsement policy in text form."""
    stub.set_state_validation_parameter(args[0], parse(args[1]))
    return None


async def put_with_policy(stub: Stub, args: list[str]) -> Any:
    """key value policy"""
    stub.put_state(args[0], args[1].encode())
    stub.set_state_validation_parameter(args[0], parse(args[2]))
    return None


async def put_composite(stub: Stub, args: list[str]) -> Any:
    """type attribute …, in one key; with transient `value` in hospital A's collection, else in public state."""
    key = composite_key(args[0], args[1:])
    if "value" in stub.transient:
        stub.put_private_data("_implicit_org_HospitalA", key, stub.transient["value"])
    else:
        stub.put_state(key, b"v")
    return None


async def partial(stub: Stub, args: list[str]) -> Any:
    """type attribute …: the keys that begin with these parts."""
    found = stub.get_state_by_partial_composite_key(args[0], args[1:])
    return [_parts(item.key) async for item in found]


async def partial_page(stub: Stub, args: list[str]) -> Any:
    """size bookmark type attribute …"""
    size, bookmark, *parts = args
    found = await stub.get_composite_key_page(parts[0], parts[1:], page_size=int(size), bookmark=bookmark)
    return {"keys": [_parts(item.key) for item in found.items], "bookmark": found.bookmark}


async def private_partial(stub: Stub, args: list[str]) -> Any:
    """collection type attribute …"""
    found = stub.get_private_data_by_partial_composite_key(args[0], args[1], args[2:])
    return [[_parts(item.key), item.value.decode()] async for item in found]


async def get_private_many(stub: Stub, args: list[str]) -> Any:
    """collection key …"""
    return [_text(value) for value in await stub.get_private_data_many(args[0], args[1:])]


async def put_private_with_policy(stub: Stub, args: list[str]) -> Any:
    """collection key policy: the value is the transient `value`."""
    stub.put_private_data(args[0], args[1], stub.transient["value"])
    stub.set_private_data_validation_parameter(args[0], args[1], parse(args[2]))
    return None


async def policy_of(stub: Stub, args: list[str]) -> Any:
    """key, or collection key: the policy as it was set, in hex."""
    if len(args) == 1:
        found = await stub.get_state_validation_parameter(args[0])
    else:
        found = await stub.get_private_data_validation_parameter(args[0], args[1])
    return None if found is None else found.hex()


async def query(stub: Stub, args: list[str]) -> Any:
    return [item.key async for item in stub.get_query_result(args[0])]


async def fail(stub: Stub, args: list[str]) -> Any:
    """An error that nobody has thought of, with the argument in its text."""
    raise RuntimeError(args[0])


async def emit(stub: Stub, args: list[str]) -> Any:
    """key event payload: a write and an event."""
    stub.put_state(args[0], args[2].encode())
    stub.set_event(args[1], args[2].encode())
    return None


async def bench(stub: Stub, args: list[str]) -> Any:
    """key shared: three reads, two public writes, one private write (its value is the transient `value`)."""
    key, shared = args
    await stub.get_states([f"{key}-a", f"{key}-b", f"shared-{shared}"])
    stub.put_state(f"{key}-a", b"a" * 100)
    stub.put_state(f"{key}-b", b"b" * 100)
    stub.put_private_data("_implicit_org_HospitalA", key, stub.transient["value"])
    return None


async def refuse(stub: Stub, args: list[str]) -> Any:
    """status code text"""
    raise ContractError(args[1], args[2], int(args[0]))


async def call(stub: Stub, args: list[str]) -> Any:
    """chaincode channel function …: chaincode to chaincode."""
    answer = await stub.invoke_chaincode(args[0], args[2:], args[1])
    return {"status": answer.status, "message": answer.message, "payload": answer.payload.decode(errors="replace")}


async def who(stub: Stub, args: list[str]) -> Any:
    return {"mspId": stub.creator.msp_id, "attributes": dict(stub.attributes), "transient": sorted(stub.transient)}


async def sleep(stub: Stub, args: list[str]) -> Any:
    await asyncio.sleep(float(args[0]))
    return None


FUNCTIONS: dict[str, Function] = {
    function.__name__.rstrip("_"): function
    for function in (
        put, get, get_many, increment, read_own_write, delete, range_, range_then_put, page, history, put_private,
        put_both, get_private, private_hash, private_range, delete_private, purge_private, set_policy, put_with_policy,
        put_composite, partial, partial_page, private_partial, get_private_many, put_private_with_policy, policy_of,
        query, fail, emit, bench, refuse, call, who, sleep,
    )
}  # fmt: skip


def _parts(key: str) -> list[str]:
    object_type, attributes = split_composite_key(key)
    return [object_type, *attributes]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


if __name__ == "__main__":
    address, chaincode_id, *suffix = sys.argv[1:]
    chaincode = ConformanceChaincode(suffix[0] if suffix else "")
    asyncio.run(serve(ChaincodeServer(chaincode, address, chaincode_id, stop_grace_seconds=1)))

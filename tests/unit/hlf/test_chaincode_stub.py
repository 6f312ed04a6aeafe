"""What a stub asks of its peer: batches and multiple gets where they are offered, queries batch by batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.peer import chaincode_pb2, chaincode_shim_pb2, proposal_response_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from hlf.chaincode import Page, ProtocolViolation, Response, Stub, composite_key
from hlf.chaincode.keys import partial_range, plain_range
from hlf.chaincode.requests import Request
from hypothesis import given
from hypothesis import strategies as st

Type = ChaincodeMessage.Type


class Recorder:
    """A peer that answers each request with what `answers` gives for its type's name, in turn."""

    def __init__(
        self, answers: dict[str, list[bytes]] | None = None, *, batch: int | None = None, multiple: int | None = None
    ) -> None:
        self.write_batch_size = batch
        self.multiple_keys = multiple
        self.asked: list[Request] = []
        self._answers = answers or {}

    async def request(self, _channel: str, _transaction_id: str, request: Request) -> bytes:
        self.asked.append(request)
        waiting = self._answers.get(request.name)
        return waiting.pop(0) if waiting else b""

    @property
    def names(self) -> list[str]:
        return [request.name for request in self.asked]


def stub_of(peer: Recorder, *arguments: bytes) -> Stub:
    return Stub(peer, "care", "t1", chaincode_pb2.ChaincodeInput(args=arguments), None)


def kv(key: str, value: bytes = b"v") -> Any:
    result = kv_query_result_pb2.KV(key=key, value=value)
    return chaincode_shim_pb2.QueryResultBytes(resultBytes=result.SerializeToString())


def results(*keys: str, more: bool = False, bookmark: str = "") -> bytes:
    metadata = chaincode_shim_pb2.QueryResponseMetadata(bookmark=bookmark).SerializeToString()
    response = chaincode_shim_pb2.QueryResponse(
        results=[kv(key) for key in keys], has_more=more, id="q1", metadata=metadata
    )
    return bytes(response.SerializeToString())


async def write_some(stub: Stub) -> None:
    stub.put_state("a", b"1")
    stub.put_state("b", b"1")
    stub.put_state("a", b"2")
    stub.del_state("c")
    stub.put_private_data("col", "a", b"3")
    stub.purge_private_data("col", "p")
    stub.set_state_validation_parameter("a", b"policy")
    await stub.flush()


async def test_writes_go_in_one_batch_where_batches_are_offered() -> None:
    peer = Recorder(batch=100)
    await write_some(stub_of(peer))
    assert peer.names == ["WRITE_BATCH_STATE"]
    records = chaincode_shim_pb2.WriteBatchState.FromString(peer.asked[0].payload).rec
    kinds = chaincode_shim_pb2.WriteRecord.Type
    assert [(kinds.Name(one.type), one.collection, one.key, one.value) for one in records] == [
        ("PUT_STATE", "", "a", b"2"),
        ("PUT_STATE", "", "b", b"1"),
        ("DEL_STATE", "", "c", b""),
        ("PUT_STATE", "col", "a", b"3"),
        ("PURGE_PRIVATE_DATA", "col", "p", b""),
        ("PUT_STATE_METADATA", "", "a", b""),
    ]
    assert (records[5].metadata.metakey, records[5].metadata.value) == ("VALIDATION_PARAMETER", b"policy")


async def test_writes_go_one_by_one_where_no_batches_are_offered() -> None:
    peer = Recorder()
    await write_some(stub_of(peer))
    assert peer.names == [
        "PUT_STATE",
        "PUT_STATE",
        "DEL_STATE",
        "PUT_STATE",
        "PURGE_PRIVATE_DATA",
        "PUT_STATE_METADATA",
    ]
    first = chaincode_shim_pb2.PutState.FromString(peer.asked[0].payload)
    assert (first.key, first.value) == ("a", b"2")


async def test_a_large_batch_is_split() -> None:
    peer, stub = Recorder(batch=3), None
    stub = stub_of(peer)
    for number in range(7):
        stub.put_state(f"k{number}", b"v")
    await stub.flush()
    sizes = [len(chaincode_shim_pb2.WriteBatchState.FromString(one.payload).rec) for one in peer.asked]
    assert sizes == [3, 3, 1]


async def test_nothing_written_sends_nothing() -> None:
    peer = Recorder(batch=100)
    await stub_of(peer).flush()
    assert peer.asked == []


async def test_several_keys_come_in_one_request_where_that_is_offered() -> None:
    answers = [
        chaincode_shim_pb2.GetStateMultipleResult(values=values).SerializeToString() for values in ([b"1", b""], [b"3"])
    ]
    peer = Recorder({"GET_STATE_MULTIPLE": answers}, multiple=2)
    assert await stub_of(peer).get_states(["a", "b", "c"]) == [b"1", None, b"3"]
    assert peer.names == ["GET_STATE_MULTIPLE"] * 2


async def test_several_keys_come_one_by_one_where_that_is_not_offered() -> None:
    peer = Recorder({"GET_STATE": [b"1", b"", b"3"]})
    assert await stub_of(peer).get_states(["a", "b", "c"]) == [b"1", None, b"3"]
    assert await stub_of(peer).get_states([]) == []


async def test_another_number_of_values_than_asked_for_is_a_violation() -> None:
    short = chaincode_shim_pb2.GetStateMultipleResult(values=[b"1"]).SerializeToString()
    with pytest.raises(ProtocolViolation):
        await stub_of(Recorder({"GET_STATE_MULTIPLE": [short]}, multiple=5)).get_states(["a", "b"])


async def test_a_range_is_fetched_batch_by_batch() -> None:
    peer = Recorder({"GET_STATE_BY_RANGE": [results("a", "b", more=True)], "QUERY_STATE_NEXT": [results("c")]})
    assert [item.key async for item in stub_of(peer).get_state_by_range()] == ["a", "b", "c"]
    assert peer.names == ["GET_STATE_BY_RANGE", "QUERY_STATE_NEXT"]


async def test_a_range_that_is_left_half_way_is_closed() -> None:
    peer = Recorder({"GET_STATE_BY_RANGE": [results("a", "b", more=True)]})
    async with stub_of(peer).get_state_by_range() as found:
        async for item in found:
            assert item.key == "a"
            break
    assert peer.names == ["GET_STATE_BY_RANGE", "QUERY_STATE_CLOSE"]
    assert [item async for item in found] == []


async def test_a_page_carries_its_bookmark() -> None:
    peer = Recorder({"GET_STATE_BY_RANGE": [results("a", bookmark="b")]})
    page = await stub_of(peer).get_composite_key_page("note", ["e"], page_size=1, bookmark="x")
    assert isinstance(page, Page)
    assert ([item.key for item in page.items], page.bookmark) == (["a"], "b")
    asked = chaincode_shim_pb2.GetStateByRange.FromString(peer.asked[0].payload)
    paging = chaincode_shim_pb2.QueryMetadata.FromString(asked.metadata)
    assert (asked.startKey, paging.pageSize, paging.bookmark) == ("\x00note\x00e\x00", 1, "x")


@pytest.mark.parametrize("size", [0, -1, 2**31])
async def test_a_page_holds_something(size: int) -> None:
    with pytest.raises(ValueError, match="page"):
        await stub_of(Recorder()).get_state_page("", "", page_size=size)


async def test_history_comes_with_transactions_and_deletions() -> None:
    change = kv_query_result_pb2.KeyModification(tx_id="t0", value=b"v", is_delete=True)
    change.timestamp.seconds = 5
    packed = chaincode_shim_pb2.QueryResultBytes(resultBytes=change.SerializeToString())
    response = chaincode_shim_pb2.QueryResponse(results=[packed]).SerializeToString()
    (found,) = [one async for one in stub_of(Recorder({"GET_HISTORY_FOR_KEY": [response]})).get_history_for_key("k")]
    assert (found.transaction_id, found.is_delete, found.timestamp.timestamp()) == ("t0", True, 5)


async def test_a_validation_parameter_is_found_among_the_metadata() -> None:
    result = chaincode_shim_pb2.StateMetadataResult()
    result.entries.add(metakey="OTHER", value=b"x")
    result.entries.add(metakey="VALIDATION_PARAMETER", value=b"policy")
    answers = [result.SerializeToString(), b""]
    stub = stub_of(Recorder({"GET_STATE_METADATA": answers}))
    assert await stub.get_state_validation_parameter("k") == b"policy"
    assert await stub.get_private_data_validation_parameter("col", "k") is None


async def test_another_chaincode_is_called_with_its_channel() -> None:
    inner = proposal_response_pb2.Response(status=404, message="none").SerializeToString()
    completed = ChaincodeMessage(type=Type.Value("COMPLETED"), payload=inner).SerializeToString()
    failed = ChaincodeMessage(type=Type.Value("ERROR"), payload=b"it broke").SerializeToString()
    peer = Recorder({"INVOKE_CHAINCODE": [completed, failed]})
    stub = stub_of(peer)
    assert await stub.invoke_chaincode("kv", ["get", b"k"], "other") == Response(404, "none")
    assert await stub.invoke_chaincode("kv", []) == Response(500, "it broke")
    spec = chaincode_pb2.ChaincodeSpec.FromString(peer.asked[0].payload)
    assert (spec.chaincode_id.name, list(spec.input.args)) == ("kv/other", [b"get", b"k"])


NAMELESS: list[Callable[[Stub], Awaitable[Any] | None]] = [
    lambda stub: stub.put_state("", b"v"),
    lambda stub: stub.put_private_data("", "k", b"v"),
    lambda stub: stub.purge_private_data("col", ""),
    lambda stub: stub.set_event(""),
]


@pytest.mark.parametrize("call", NAMELESS)
def test_what_has_no_name_is_refused(call: Callable[[Stub], Any]) -> None:
    with pytest.raises(ValueError, match="name"):
        call(stub_of(Recorder()))


def test_a_function_name_that_is_not_text_is_still_a_name() -> None:
    assert stub_of(Recorder(), b"\xff").function == "\ufffd"
    assert stub_of(Recorder()).function == ""


PARTS = st.text(st.characters(exclude_characters="\x00\U0010ffff", exclude_categories=["Cs"]))


@given(PARTS, st.lists(PARTS, min_size=1))
def test_a_partial_range_holds_the_keys_that_begin_so(object_type: str, attributes: list[str]) -> None:
    start, end = partial_range(object_type, attributes[:-1])
    assert start <= composite_key(object_type, attributes) < end


def test_a_plain_range_keeps_out_of_composite_keys() -> None:
    assert plain_range("", "") == ("\x01", "")
    with pytest.raises(ValueError, match="plain"):
        plain_range("\x00note\x00", "")

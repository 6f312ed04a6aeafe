"""Blocks as streams: where they start and stop, who may read them, what is in them."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2
from hlf.deliver import deliver
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support import raw_calls as raw
from support.devnet import Network, new_member
from support.transactions import Client

Status = common_pb2.Status


@pytest.fixture(scope="module")
async def calls(network: Network) -> AsyncIterator[raw.Calls]:
    async with raw.calls_of(network.endpoint("HospitalA")) as calls:
        yield calls


@pytest.fixture
def client(gateway: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway, somebody)


async def told(method: Any, *envelopes: Any) -> list[int | str]:
    """Numbers of the blocks that came, and names of the statuses."""
    found: list[int | str] = []
    async for response in method(iter(envelopes)):
        kind = response.WhichOneof("Type")
        if kind == "status":
            found.append(Status.Name(response.status))
        elif kind == "filtered_block":
            found.append(response.filtered_block.number)
        else:
            block = response.block if kind == "block" else response.block_and_private_data.block
            found.append(block.header.number)
    return found


@pytest.mark.parametrize("method", ["Deliver", "DeliverFiltered", "DeliverWithPrivateData"])
async def test_a_range_of_blocks_ends_with_success_and_another_may_follow(
    calls: raw.Calls, somebody: SigningIdentity, method: str
) -> None:
    envelopes = [raw.seek(somebody, "oldest", 1), raw.seek(somebody, 1, 1)]
    assert await told(getattr(calls.deliver, method), *envelopes) == [0, 1, "SUCCESS", 1, "SUCCESS"]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        ("oldest", "oldest", [0, "SUCCESS"]),
        (0, "oldest", [0, "SUCCESS"]),
        (1, 0, ["BAD_REQUEST"]),
        (None, 1, ["BAD_REQUEST"]),
        (1, None, ["BAD_REQUEST"]),
        (10**6, 10**6, ["NOT_FOUND"]),
    ],
)
async def test_seek_positions_are_judged_as_fabric_does(
    calls: raw.Calls,
    somebody: SigningIdentity,
    start: int | str | None,
    stop: int | str | None,
    expected: list[int | str],
) -> None:
    assert await told(calls.deliver.Deliver, raw.seek(somebody, start, stop)) == expected


async def test_the_newest_block_alone_is_one_block(calls: raw.Calls, client: Client) -> None:
    number = (await client.submit("put", f"d-{secrets.token_hex(4)}", "v")).block_number
    assert await told(calls.deliver.Deliver, raw.seek(client.signer, "newest", "newest")) == [number, "SUCCESS"]
    assert await told(calls.deliver.Deliver, raw.seek(client.signer, number, "newest")) == [number, "SUCCESS"]


async def test_a_client_that_will_not_wait_is_told_that_there_is_no_more(calls: raw.Calls, client: Client) -> None:
    number = (await client.submit("put", f"d-{secrets.token_hex(4)}", "v")).block_number
    envelope = raw.seek(client.signer, number, raw.NEVER, behavior=ab_pb2.SeekInfo.FAIL_IF_NOT_READY)
    assert await told(calls.deliver.Deliver, envelope) == [number, "NOT_FOUND"]


async def test_headers_come_without_data_but_for_configuration(calls: raw.Calls, somebody: SigningIdentity) -> None:
    envelope = raw.seek(somebody, 0, 1, content_type=ab_pb2.SeekInfo.HEADER_WITH_SIG)
    blocks = [response.block async for response in calls.deliver.Deliver(iter([envelope]))][:2]
    assert [len(block.data.data) for block in blocks] == [1, 0]
    assert len(blocks[1].metadata.metadata) == 5


@pytest.mark.parametrize("offset_seconds", [-901, 901])
async def test_a_request_from_another_time_is_a_bad_one(
    calls: raw.Calls, somebody: SigningIdentity, offset_seconds: float
) -> None:
    envelope = raw.seek(somebody, 0, 0, offset_seconds=offset_seconds)
    assert await told(calls.deliver.Deliver, envelope) == ["BAD_REQUEST"]


async def test_only_readers_of_the_channel_with_a_valid_signature_get_blocks(
    calls: raw.Calls, network: Network, somebody: SigningIdentity, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    expired = network.member("HospitalA", now=now - timedelta(days=2), not_after=now - timedelta(days=1))
    for envelope, status in (
        (raw.seek(somebody, 0, 0, signature=b"forged"), "FORBIDDEN"),
        (raw.seek(new_member("HospitalX", tmp_path).identity(), 0, 0), "FORBIDDEN"),
        (raw.seek(network.member("HospitalA", role=""), 0, 0), "FORBIDDEN"),
        (raw.seek(expired, 0, 0), "FORBIDDEN"),
        (raw.seek(somebody, 0, 0, channel="elsewhere"), "NOT_FOUND"),
        (common_pb2.Envelope(payload=b"\xff"), "BAD_REQUEST"),
        (common_pb2.Envelope(), "BAD_REQUEST"),
    ):
        assert await told(calls.deliver.Deliver, envelope) == [status]
    assert await told(calls.deliver.Deliver, raw.seek(network.member("HospitalB", role="peer"), 0, 0)) == [0, "SUCCESS"]


async def test_a_stream_ends_when_its_readers_certificate_expires(
    calls: raw.Calls, network: Network, client: Client
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    reader = network.member("HospitalA", not_after=soon)
    stream = calls.deliver.DeliverFiltered(iter([raw.seek(reader, "newest", raw.NEVER)]))
    assert (await stream.read()).HasField("filtered_block")
    await asyncio.sleep(2.1)
    await client.submit("put", f"d-{secrets.token_hex(4)}", "v")
    assert (await stream.read()).status == Status.FORBIDDEN


async def test_filtered_blocks_tell_ids_codes_and_events_without_payloads(calls: raw.Calls, client: Client) -> None:
    status = await client.submit("emit", f"d-{secrets.token_hex(4)}", "happened", "a payload")
    envelope = raw.seek(client.signer, status.block_number, status.block_number)
    filtered = (await calls.deliver.DeliverFiltered(iter([envelope])).read()).filtered_block
    assert (filtered.channel_id, filtered.number) == ("care", status.block_number)
    (transaction,) = filtered.filtered_transactions
    assert (transaction.txid, transaction.tx_validation_code) == (status.transaction_id, 0)
    (action,) = transaction.transaction_actions.chaincode_actions
    event = action.chaincode_event
    assert (event.chaincode_id, event.event_name, event.tx_id) == ("conformance", "happened", status.transaction_id)
    assert event.payload == b""


async def test_blocks_link_to_each_other_and_hold_what_their_headers_say(
    gateway: Gateway, somebody: SigningIdentity
) -> None:
    blocks = [block async for block in deliver(gateway, somebody, "care", start=0, stop=3)]
    assert [block.number for block in blocks] == [0, 1, 2, 3]

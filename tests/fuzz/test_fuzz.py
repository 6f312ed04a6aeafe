"""The short form of `make fuzz`, and that recipes mean what they say."""

import asyncio
import random
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2
from fabric_protos.peer.chaincode_shim_pb2 import ChaincodeMessage
from fuzz import recordings
from fuzz.chaincode import CHAINCODE_KINDS, fuzzed_chaincode
from fuzz.fuzzer import Fuzzer
from fuzz.layout import NESTED, Inapplicable, places
from fuzz.messages import KINDS, bench_on
from fuzz.recipes import Recipe, apply, parse_line
from support.devnet import running_devnet

SECONDS = 3.0
CORPUS_BYTES = 300_000

CHANNEL_HEADER = common_pb2.ChannelHeader(type=3, channel_id="care", tx_id="abc").SerializeToString()
PAYLOAD = common_pb2.Payload(header=common_pb2.Header(channel_header=CHANNEL_HEADER), data=b"d").SerializeToString()
ENVELOPE = common_pb2.Envelope(payload=PAYLOAD, signature=b"s").SerializeToString()


async def test_devnet_refuses_or_survives_whatever_it_is_sent(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet, bench_on(devnet) as bench:
        fuzzer = Fuzzer(devnet, bench, random.Random())
        await fuzzer.run(SECONDS)
        async with fuzzed_chaincode(devnet) as fuzzed:
            await fuzzer.run_chaincode(fuzzed, 1)
    assert fuzzer.messages > 0


async def test_a_chaincode_message_of_an_unknown_type_ends_its_stream_alone(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet, bench_on(devnet) as bench, fuzzed_chaincode(devnet) as fuzzed:
        evaluation, _ = await fuzzed.running_evaluation(bench)
        fuzzed.outgoing.put_nowait(ChaincodeMessage(type=99).SerializeToString())
        await evaluation
        assert devnet.process is not None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(devnet.process.wait(), 2)


def test_a_place_inside_nested_messages_is_changed_and_nothing_else() -> None:
    changed = apply(("payload.header.channel_header.tx_id", "set", b"xyz"), common_pb2.Envelope, ENVELOPE, NESTED)
    assert changed == ENVELOPE.replace(b"abc", b"xyz")
    dropped = apply(("payload.header.channel_header.tx_id", "drop"), common_pb2.Envelope, ENVELOPE, NESTED)
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(dropped).payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    assert (header.tx_id, header.channel_id, payload.data) == ("", "care", b"d")


def test_every_place_of_a_message_is_named() -> None:
    assert list(places(common_pb2.Envelope, ENVELOPE, NESTED)) == [
        "payload",
        "payload.header",
        "payload.header.channel_header",
        "payload.header.channel_header.type",
        "payload.header.channel_header.channel_id",
        "payload.header.channel_header.tx_id",
        "payload.data",
        "signature",
    ]


@pytest.mark.parametrize(
    "path", ["payload.header.signature_header", "payload.data.actions[0]", "nothing", "payload[1]"]
)
def test_a_recipe_for_a_place_that_is_not_there_does_not_apply(path: str) -> None:
    with pytest.raises(Inapplicable):
        apply((path, "drop"), common_pb2.Envelope, ENVELOPE, NESTED)


def test_a_recipe_survives_being_written_down() -> None:
    recipe = Recipe("seek", (("payload.data", "splice", 0.25, 3, "ff00"), ("signature", "drop")), "caller")
    assert parse_line(recipe.line(devnet="BAD_REQUEST")) == (recipe, {"devnet": "BAD_REQUEST"})


def test_the_corpus_is_small_covers_every_kind_and_tells_what_both_answered() -> None:
    files = list(recordings.FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < CORPUS_BYTES
    assert {file.stem for file in files} == {*KINDS, *CHAINCODE_KINDS}
    assert all(answers.keys() == {"devnet", "official"} for _, answers in recordings.recorded())

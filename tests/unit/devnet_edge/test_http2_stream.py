"""The HTTP/2 of the chaincode stream: against gRPC's own server, and against a server whose every frame is written."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hlf_devnet.http2_stream import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Frame,
    Http2Stream,
    StreamEnded,
    client_tls,
)
from support.devnet import new_member
from support.ports import free_address

PATH = "/protos.Chaincode/Connect"
OK_HEADERS = b"\x88"  # ":status: 200" of HPACK's static table


def unchanged(message: bytes) -> bytes:
    return message


@asynccontextmanager
async def echo_server(credentials: Any = None) -> AsyncIterator[str]:
    """Sends back each message; `status` ends the stream with an error, `bye` in peace."""

    async def echo(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            if message == b"bye":
                return
            if message == b"status":
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
            yield message

    address = free_address()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    handler = grpc.stream_stream_rpc_method_handler(echo, unchanged, unchanged)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("protos.Chaincode", {"Connect": handler})])
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(0)


class Received:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._changed = asyncio.Event()

    def __call__(self, message: bytes) -> None:
        self.messages.append(message)
        self._changed.set()

    async def count(self, number: int) -> list[bytes]:
        async with asyncio.timeout(20):
            while len(self.messages) < number:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_535, 5_000_000, 40_000_000])
async def test_messages_of_every_size_go_there_and_back(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with echo_server() as address:
        stream, received = Http2Stream(address, PATH), Received()
        await stream.connect(received)
        stream.send(message)
        stream.send(b"after")
        assert await received.count(2) == [message, b"after"]
        stream.close()


async def test_thousands_of_messages_stay_in_order_through_the_flow_control() -> None:
    async with echo_server() as address:
        stream, received = Http2Stream(address, PATH), Received()
        await stream.connect(received)
        messages = [struct.pack(">I", number) * (number % 700) for number in range(5_000)]
        for message in messages:
            stream.send(message)
        assert await received.count(len(messages)) == messages
        stream.close()


@pytest.mark.parametrize("message", [b"bye", b"status"])
async def test_a_stream_is_over_when_the_server_ends_it_whatever_it_says(message: bytes) -> None:
    async with echo_server() as address:
        stream = Http2Stream(address, PATH)
        await stream.connect(Received())
        stream.send(message)
        await asyncio.wait_for(stream.ended(), 5)
        stream.send(b"too late")


async def test_a_method_that_the_server_does_not_have_ends_the_stream() -> None:
    async with echo_server() as address:
        stream = Http2Stream(address, "/protos.Chaincode/Nothing")
        await stream.connect(Received())
        await asyncio.wait_for(stream.ended(), 5)


async def test_nobody_listening_is_an_end_too() -> None:
    with pytest.raises(StreamEnded, match="no connection to"):
        await Http2Stream(free_address(), PATH).connect(Received())


async def test_over_tls_the_servers_certificate_must_be_the_right_one(tmp_path: Path) -> None:
    member, stranger = new_member("HospitalA", tmp_path / "a"), new_member("HospitalB", tmp_path / "b")
    pair = ((member.folder / "tls.key").read_bytes(), (member.folder / "tls.crt").read_bytes())
    async with echo_server(grpc.ssl_server_credentials([pair])) as address:
        right = client_tls(member.tls_authority.certificate_pem.decode())
        stream, received = Http2Stream(address, PATH, tls=right), Received()
        await stream.connect(received)
        stream.send(b"sealed")
        assert await received.count(1) == [b"sealed"]
        stream.close()
        named = Http2Stream(address, PATH, tls=right, server_name="peer0.hospitala.example")
        await named.connect(received)
        named.close()
        for wrong in (
            Http2Stream(address, PATH, tls=right, server_name="somebody.else"),
            Http2Stream(address, PATH, tls=client_tls(stranger.tls_authority.certificate_pem.decode())),
        ):
            with pytest.raises(StreamEnded, match="no connection to"):
                await wrong.connect(Received())


async def test_what_the_receiver_raises_ends_the_stream_with_it() -> None:
    def refuse(_: bytes) -> None:
        raise ValueError("not this")

    async with echo_server() as address:
        stream = Http2Stream(address, PATH)
        await stream.connect(refuse)
        stream.send(b"x")
        with pytest.raises(ValueError, match="not this"):
            await asyncio.wait_for(stream.ended(), 5)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(content: bytes) -> bytes:
    return struct.pack(">BI", 0, len(content)) + content


@asynccontextmanager
async def scripted(*frames: bytes, answer: Callable[[int, bytes], None] | None = None) -> AsyncIterator[str]:
    """A server that sends `frames` one byte at a time; `answer` hears of each frame that it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(frame(Frame.SETTINGS, 0, 0, b""))
        for byte in b"".join(frames):
            writer.write(bytes([byte]))
            await writer.drain()
        while not reader.at_eof():
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if answer is not None:
                answer(head[3] | head[4] << 8, payload)

    address = free_address()
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(serve, host, int(port))
    try:
        yield address
    finally:
        server.close()


def headers() -> bytes:
    return frame(Frame.HEADERS, END_HEADERS, 1, OK_HEADERS)


async def test_frames_in_any_pieces_padded_or_split_give_the_same_messages() -> None:
    content = message(b"one") + message(b"") + message(b"three")
    frames = (
        frame(Frame.HEADERS, 0, 1, b""),
        frame(Frame.CONTINUATION, END_HEADERS, 1, OK_HEADERS),
        frame(Frame.DATA, PADDED, 1, bytes([3]) + content[:7] + b"\0\0\0"),
        frame(0xFA, 0, 0, b"a frame of a kind that nobody knows"),
        frame(Frame.PRIORITY, 0, 1, bytes(5)),
        frame(Frame.DATA, 0, 1, content[7:]),
    )
    async with scripted(*frames) as address:
        stream, received = Http2Stream(address, PATH), Received()
        await stream.connect(received)
        assert await received.count(3) == [b"one", b"", b"three"]
        stream.close()


async def test_pings_and_settings_are_answered() -> None:
    heard: list[tuple[int, bytes]] = []
    ping = frame(Frame.PING, 0, 0, b"12345678")
    async with scripted(ping, headers(), answer=lambda kind, payload: heard.append((kind, payload))) as address:
        stream = Http2Stream(address, PATH)
        await stream.connect(Received())
        async with asyncio.timeout(5):
            while (Frame.PING | ACK << 8, b"12345678") not in heard or (Frame.SETTINGS | ACK << 8, b"") not in heard:
                await asyncio.sleep(0.01)
        stream.close()


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([frame(Frame.RST_STREAM, 0, 1, bytes(4))], "RST_STREAM"),
        ([frame(Frame.GOAWAY, 0, 0, bytes(8))], "GOAWAY"),
        ([headers(), frame(Frame.DATA, END_STREAM, 1, b"")], "without a status"),
        ([headers(), frame(Frame.DATA, 0, 1, struct.pack(">BI", 1, 3) + b"zip")], "compressed or too large"),
        ([headers(), frame(Frame.DATA, 0, 1, struct.pack(">BI", 0, 2**31))], "compressed or too large"),
    ],
)
async def test_a_server_that_breaks_off_or_breaks_the_rules_ends_the_stream(frames: list[bytes], reason: str) -> None:
    async with scripted(*frames) as address:
        stream = Http2Stream(address, PATH)
        await stream.connect(Received())
        with pytest.raises(StreamEnded, match=reason):
            await asyncio.wait_for(stream.ended(), 5)

"""One bidirectional gRPC stream on a connection of its own, in asyncio's event loop.

A peer and its chaincode exchange many small messages. Through grpc.aio each costs a hand-over between threads, which
was half of devnet's time; here one is a few struct operations and its share of a socket write. Only what such a stream
needs of HTTP/2 (RFC 9113) is here: one stream, flow control both ways, pings answered, no push, no priorities. Headers
are sent plainly (RFC 7541, 6.2.2) and those that come are not read: a gRPC stream that has begun says all in its
messages, and how it ended makes no difference to a peer.
"""

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final, cast

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM: Final = 1
DEFAULT_WINDOW: Final = 65_535
OWN_WINDOW: Final = 16 * 1024 * 1024
LARGEST_FRAME: Final = 16_384
LARGEST_MESSAGE: Final = 100 * 1024 * 1024
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
SETTING_ENABLE_PUSH, SETTING_INITIAL_WINDOW, SETTING_MAX_FRAME = 0x2, 0x4, 0x5


class Frame(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class StreamEnded(Exception):
    """The stream broke, or could not be opened."""


class Http2Stream(asyncio.Protocol):
    """Made once for one stream: `connect`, then `send` and wait for `ended`, in the end `close`.

    `send` never waits: what the server has no room for is kept until it has.
    """

    def __init__(
        self, address: str, path: str, *, tls: ssl.SSLContext | None = None, server_name: str | None = None
    ) -> None:
        self._address = address
        self._path = path
        self._tls = tls
        self._server_name = server_name
        self._on_message: Callable[[bytes], None] = _ignore
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._message = bytearray()
        self._outgoing = bytearray()
        self._flush_is_due = False
        self._blocked: deque[bytes] = deque()
        self._largest_frame = LARGEST_FRAME
        self._initial_window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._connection_window = DEFAULT_WINDOW
        self._unacknowledged = 0

    async def connect(self, on_message: Callable[[bytes], None]) -> None:
        """`on_message` is called with each message, within the event loop; what it raises ends the stream.

        Raises StreamEnded when nobody listens or the server's certificate is not the right one.
        """
        self._on_message = on_message
        host, _, port = self._address.rpartition(":")
        name = (self._server_name or host) if self._tls is not None else None
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: self, host, int(port), ssl=self._tls, server_hostname=name
            )
        except OSError as error:
            raise StreamEnded(f"no connection to {self._address}") from error
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def ended(self) -> None:
        """Returns when the server ends the stream; raises StreamEnded when it breaks, or what `on_message` raised."""
        await asyncio.shield(self._ended)

    def send(self, message: bytes) -> None:
        """Nothing happens once the stream is over."""
        if not self._ended.done():
            self._blocked.append(struct.pack(">BI", 0, len(message)) + message)
            self._send_what_fits()

    def close(self) -> None:
        self._end(StreamEnded("closed by the peer"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = struct.pack(">HIHI", SETTING_ENABLE_PUSH, 0, SETTING_INITIAL_WINDOW, OWN_WINDOW)
        more = struct.pack(">I", OWN_WINDOW - DEFAULT_WINDOW)
        block = b"".join(_literal(name, value) for name, value in self._request_headers())
        self._write(
            PREFACE
            + _frame(Frame.SETTINGS, 0, 0, settings)
            + _frame(Frame.WINDOW_UPDATE, 0, 0, more)
            + _frame(Frame.HEADERS, END_HEADERS, STREAM, block)
        )

    def _request_headers(self) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http" if self._tls is None else "https"),
            (":path", self._path),
            (":authority", self._server_name or self._address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "hlf-devnet"),
        ]

    def connection_lost(self, error: Exception | None) -> None:
        self._end(StreamEnded("the connection was lost"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            self._read_frames()
        except Exception as error:  # whatever is wrong with what came, `ended` tells it
            self._end(error)

    def _read_frames(self) -> None:
        received, position = self._received, 0
        while len(received) - position >= 9:
            length = int.from_bytes(received[position : position + 3], "big")
            end = position + 9 + length
            if len(received) < end:
                break
            kind, flags = received[position + 3], received[position + 4]
            stream = int.from_bytes(received[position + 5 : position + 9], "big") & 0x7FFFFFFF
            self._read_frame(kind, flags, stream, bytes(received[position + 9 : end]))
            position = end
        del received[:position]

    def _read_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Frame.DATA:
            self._read_data(flags, payload)
        elif kind == Frame.WINDOW_UPDATE:
            self._read_window_update(stream, payload)
        elif kind == Frame.HEADERS and flags & END_STREAM:
            self._end(None)
        elif kind == Frame.SETTINGS and not flags & ACK:
            self._read_settings(payload)
        elif kind == Frame.PING and not flags & ACK:
            self._write(_frame(Frame.PING, ACK, 0, payload))
        elif kind in (Frame.RST_STREAM, Frame.GOAWAY):
            raise StreamEnded(f"the server sent {Frame(kind).name}")

    def _read_data(self, flags: int, payload: bytes) -> None:
        self._give_room(len(payload))
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        self._message += payload
        self._read_messages()
        if flags & END_STREAM:
            raise StreamEnded("the server ended the stream without a status")

    def _read_messages(self) -> None:
        message, position = self._message, 0
        while len(message) - position >= 5:
            is_compressed, length = struct.unpack_from(">BI", message, position)
            if is_compressed or length > LARGEST_MESSAGE:
                raise StreamEnded("the server sent a message that is compressed or too large")
            end = position + 5 + length
            if len(message) < end:
                break
            self._on_message(bytes(message[position + 5 : end]))
            position = end
        del message[:position]

    def _give_room(self, length: int) -> None:
        self._unacknowledged += length
        if self._unacknowledged >= OWN_WINDOW // 2:
            more = struct.pack(">I", self._unacknowledged)
            self._write(_frame(Frame.WINDOW_UPDATE, 0, 0, more) + _frame(Frame.WINDOW_UPDATE, 0, STREAM, more))
            self._unacknowledged = 0

    def _read_window_update(self, stream: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream == 0:
            self._connection_window += more
        else:
            self._stream_window += more
        self._send_what_fits()

    def _read_settings(self, payload: bytes) -> None:
        for setting, value in struct.iter_unpack(">HI", payload):
            if setting == SETTING_INITIAL_WINDOW:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif setting == SETTING_MAX_FRAME:
                self._largest_frame = value
        self._write(_frame(Frame.SETTINGS, ACK, 0, b""))
        self._send_what_fits()

    def _send_what_fits(self) -> None:
        while self._blocked:
            room = min(self._stream_window, self._connection_window, self._largest_frame)
            if room <= 0:
                return
            piece = self._blocked.popleft()
            if len(piece) > room:
                self._blocked.appendleft(piece[room:])
                piece = piece[:room]
            self._stream_window -= len(piece)
            self._connection_window -= len(piece)
            self._write(_frame(Frame.DATA, 0, STREAM, piece))

    def _write(self, frames: bytes) -> None:
        """What is written in this turn of the event loop and in the next goes out together: with many transactions
        at work that saves a fifth of the socket writes, and when idle a turn takes no time."""
        self._outgoing += frames
        if not self._flush_is_due:
            self._flush_is_due = True
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._outgoing))
        self._outgoing.clear()

    def _end(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
            self._ended.exception()  # somebody may close a stream without asking how it ended


def _literal(name: str, value: str) -> bytes:
    """A header as a literal without indexing."""
    return b"\0" + _string(name.encode()) + _string(value.encode())


def _string(content: bytes) -> bytes:
    if len(content) >= 127:
        raise StreamEnded("a header is too long")
    return bytes([len(content)]) + content


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _ignore(_: bytes) -> None:
    """Before `connect` there is nothing to hear."""


def client_tls(ca_pem: str) -> ssl.SSLContext:
    """For a server with a certificate of the authorities in `ca_pem`."""
    context = ssl.create_default_context(cadata=ca_pem)
    context.set_alpn_protocols(["h2"])
    return context

"""Ports for servers that tests start."""

import secrets
import socket
from contextlib import suppress

FIRST, END = 15_000, 32_000
"""Below those that Linux takes for outgoing connections: one of them could have the port before the server binds it."""


def free_port() -> int:
    while True:
        port = FIRST + secrets.randbelow(END - FIRST)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"

"""A hospital's system that takes webhooks: a TLS server of its own, which answers as a test wants."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from support.threads import served

Answerer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def is_signed_by(self, secret: str) -> bool:
        """As the Standard Webhooks specification has it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return expected in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """``answers`` are taken one a request, then ``by_default``, 204 without it. ``posted`` is everything that came."""

    ca_file: Path
    port: int = 0
    answers: list[Answerer] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    by_default: Answerer | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/careledger"

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.posted.append(Posted(handler.path, headers, body))
        (self.answers.pop(0) if self.answers else self.by_default or status(204))(handler)


def status(code: int, headers: dict[str, str] | None = None) -> Answerer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Answers 200 and sends until the other side has enough."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@contextmanager
def webhook_receiver(folder: Path) -> Iterator[Receiver]:
    """Listens on loopback with a certificate for ``localhost`` of its own CA."""
    tls = CertificateAuthority.create("tlsca.his.example", "his.example")
    key = new_private_key()
    certificate = tls.issue("localhost", key.public_key(), purpose=Purpose.TLS, sans=["localhost"])
    chain, ca_file = folder / "receiver.pem", folder / "receiver-ca.pem"
    chain.write_bytes(certificate_to_pem(certificate) + private_key_to_pem(key))
    ca_file.write_bytes(tls.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    receiver = Receiver(ca_file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.take(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, address: Any) -> None:
            with suppress(OSError), context.wrap_socket(request, server_side=True) as secured:
                Handler(secured, address, self)

        def handle_error(self, *_: object) -> None:
            """A client that went away."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    with served(server):
        yield receiver

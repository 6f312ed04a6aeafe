"""The health check of a container says what the service says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from emr_common.probe import is_ready


@contextmanager
def _service(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (404, False)])
def test_it_is_ready_when_the_service_says_so(status: int, ready: bool) -> None:
    with _service(status) as port:
        assert is_ready({"EMR_HTTP__PORT": str(port)}) is ready


def test_where_nothing_listens_nothing_is_ready() -> None:
    with _service(200) as port:
        pass
    assert not is_ready({"EMR_HTTP__PORT": str(port)})

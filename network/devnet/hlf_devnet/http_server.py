"""A small HTTP server inside a process that has its own main loop and its own signals."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


class EmbeddedServer(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs it says when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def embedded(app: ASGIApp, address: str, certificate: Path | None = None, key: Path | None = None) -> EmbeddedServer:
    """`await .serve()` it; set `.should_exit` to end it. With certificate and key it speaks HTTPS."""
    host, _, port = address.rpartition(":")
    return EmbeddedServer(
        uvicorn.Config(
            app,
            host=host,
            port=int(port),
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
    )

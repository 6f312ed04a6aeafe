"""The HTTP side that every process shares: limits, request ids, metrics, problems, health, and how it is served.

``create_app`` makes the application, ``run`` serves it until a signal; requests under way are then finished.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import FrameType
from typing import Protocol

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from uvicorn.server import Server

from emr_common import openapi, problems, telemetry, tracing
from emr_common.admission import Admission
from emr_common.boundary import Boundary
from emr_common.connections import BoundedProtocol
from emr_common.memory import given_back
from emr_common.readiness import Readiness
from emr_common.settings import Settings
from emr_common.workload import BodyLimit, Workload

DRAIN_SECONDS = 25
KEEP_ALIVE_SECONDS = 30
BACKLOG = 512

log = structlog.get_logger(__name__)


class Services(Protocol):
    """What a process's bootstrap gives at least. It becomes ``app.state.services``."""

    @property
    def readiness(self) -> Readiness: ...


Bootstrap = Callable[[], AbstractAsyncContextManager[Services]]


def create_app(
    *,
    title: str,
    description: str,
    settings: Settings,
    bootstrap: Bootstrap,
    routers: Sequence[APIRouter] = (),
    body_limits: Mapping[str, int] | None = None,
    for_anybody: Collection[str] = (),
) -> FastAPI:
    """An application of ``routers``, whose prefix is ``/v1``, with ``/healthz``, ``/readyz`` and ``/metrics`` beside
    them.

    ``bootstrap`` is entered at start and left after the last request. ``body_limits`` are bytes by route template
    (``/v1/emrs/{emr}/imports``) where the setting's limit is not the right one; ``for_anybody`` are the paths of
    ``routers`` that need no token.
    """
    app = FastAPI(
        title=title,
        description=description,
        version="1",
        lifespan=_lifespan(bootstrap),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # to an address that is made of the caller's own Host header
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ``boundary`` sees to all three
    )
    for router in routers:
        app.router.routes.extend(router.routes)  # of an included router FastAPI looks for each request's route twice
    app.include_router(_operations())
    app.add_middleware(BodyLimit, default=settings.http.max_body_bytes, by_route=dict(body_limits or {}))
    app.add_middleware(Workload)
    app.add_middleware(Admission, rates=settings.rate, for_anybody=for_anybody)
    app.add_middleware(Boundary)
    problems.install(app)
    app.openapi = openapi.describe(app)  # type: ignore[method-assign]
    return app


def _lifespan(bootstrap: Bootstrap) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with given_back(), bootstrap() as services:
            app.state.services = services
            yield

    return lifespan


def _operations() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def ready(request: Request) -> JSONResponse:
        services: Services = request.app.state.services
        checks = await services.readiness.check()
        is_ready = all(checks.values())
        body = {
            "status": "ready" if is_ready else "not ready",
            "checks": {k: "ok" if v else "failing" for k, v in checks.items()},
        }
        return JSONResponse(body, 200 if is_ready else 503)

    @router.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def run(app: FastAPI, settings: Settings) -> None:
    """Serves ``app`` until SIGTERM or SIGINT, then finishes what is under way, 25 s at most. Exits 1 if it cannot
    start.
    """
    telemetry.configure_logging(settings.log)
    tracing.start(settings, app.title.removeprefix("CareLedger "))
    config = uvicorn.Config(
        app,
        host=settings.http.host,
        port=settings.http.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # uvicorn gives the signal back once it has drained
    server = _Server(config)
    try:
        server.run()
    finally:
        tracing.stop()
    if not server.started:
        sys.exit(1)


class _Server(Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Services that have a ``leave`` end what would go on without end, such as streams of events."""
        leave = getattr(getattr(self.config.app.state, "services", None), "leave", None)  # type: ignore[union-attr]
        if leave is not None:
            leave()
        super().handle_exit(sig, frame)


def _leave(*_: object) -> None:
    sys.exit(0)

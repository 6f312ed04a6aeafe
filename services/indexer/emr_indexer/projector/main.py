"""The projector's process: it works in the background and answers /healthz, /readyz and /metrics."""

from __future__ import annotations

from functools import partial

from emr_common.http import create_app, run
from emr_common.settings import load
from fastapi import FastAPI

from emr_indexer.projector.bootstrap import bootstrap
from emr_indexer.projector.settings import ProjectorSettings


def application(settings: ProjectorSettings) -> FastAPI:
    return create_app(
        title="CareLedger projector",
        description="From the hospital's topics to rows",
        settings=settings,
        bootstrap=partial(bootstrap, settings),
    )


def main() -> None:
    settings = load(ProjectorSettings)
    run(application(settings), settings)

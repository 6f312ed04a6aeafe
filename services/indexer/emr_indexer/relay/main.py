"""The relay's process: it works in the background and answers /healthz, /readyz and /metrics."""

from __future__ import annotations

from functools import partial

from emr_common.http import create_app, run
from emr_common.settings import load
from fastapi import FastAPI

from emr_indexer.relay.bootstrap import bootstrap
from emr_indexer.relay.settings import RelaySettings


def application(settings: RelaySettings) -> FastAPI:
    return create_app(
        title="CareLedger relay",
        description="From the ledger's blocks to the hospital's topics",
        settings=settings,
        bootstrap=partial(bootstrap, settings),
    )


def main() -> None:
    settings = load(RelaySettings)
    run(application(settings), settings)

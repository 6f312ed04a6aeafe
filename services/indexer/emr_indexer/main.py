"""The indexer's API as a process."""

from __future__ import annotations

from functools import partial

from emr_common.http import create_app, run
from emr_common.settings import load
from fastapi import FastAPI

from emr_indexer import api
from emr_indexer.bootstrap import bootstrap
from emr_indexer.page import routes as page
from emr_indexer.settings import IndexerSettings


def application(settings: IndexerSettings) -> FastAPI:
    return create_app(
        title="CareLedger indexer",
        description="How far the read model is, and what it does not take from the ledger.",
        settings=settings,
        bootstrap=partial(bootstrap, settings),
        routers=[api.router, page.router],
        for_anybody=page.PATHS,
    )


def main() -> None:
    settings = load(IndexerSettings)
    run(application(settings), settings)

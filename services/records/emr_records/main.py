"""The records service as a process."""

from __future__ import annotations

from emr_common import transaction_routes
from emr_common.http import create_app, run
from emr_common.settings import load
from emr_model.clinical.limits import IMPORT_MAX_BYTES
from fastapi import FastAPI

from emr_records import api
from emr_records.bootstrap import bootstrap
from emr_records.operations import OPERATIONS
from emr_records.settings import RecordsSettings


def application(settings: RecordsSettings) -> FastAPI:
    return create_app(
        title="CareLedger records",
        description="Reading EMRs, adding notes, imports, downloads, and snapshots that other hospitals shared.",
        settings=settings,
        bootstrap=lambda: bootstrap(settings),
        routers=[api.router, transaction_routes.routes(OPERATIONS)],
        body_limits={"/v1/emrs/{emr}/imports": IMPORT_MAX_BYTES},
    )


def main() -> None:
    settings = load(RecordsSettings)
    run(application(settings), settings)

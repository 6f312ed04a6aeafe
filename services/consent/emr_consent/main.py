"""The consent service as a process."""

from __future__ import annotations

from emr_common import transaction_routes
from emr_common.http import create_app, run
from emr_common.settings import load
from fastapi import FastAPI

from emr_consent import api
from emr_consent.bootstrap import bootstrap
from emr_consent.operations import OPERATIONS
from emr_consent.settings import ConsentSettings
from emr_consent.webhooks import api as webhook_routes


def application(settings: ConsentSettings) -> FastAPI:
    return create_app(
        title="CareLedger consent",
        description="Requests, approvals and endings: how an EMR comes to be shared, and stops being shared.",
        settings=settings,
        bootstrap=lambda: bootstrap(settings),
        routers=[api.router, webhook_routes.router, transaction_routes.routes(OPERATIONS)],
    )


def main() -> None:
    settings = load(ConsentSettings)
    run(application(settings), settings)

"""The registration service as a process."""

from __future__ import annotations

from emr_common import transaction_routes
from emr_common.http import create_app, run
from emr_common.settings import load
from fastapi import FastAPI

from emr_registration import api
from emr_registration.bootstrap import bootstrap
from emr_registration.operations import OPERATIONS
from emr_registration.settings import RegistrationSettings


def application(settings: RegistrationSettings) -> FastAPI:
    return create_app(
        title="CareLedger registration",
        description="Patients and staff: who they are on the ledger, how an EMR comes to be, and how it is erased.",
        settings=settings,
        bootstrap=lambda: bootstrap(settings),
        routers=[api.router, transaction_routes.routes(OPERATIONS)],
    )


def main() -> None:
    settings = load(RegistrationSettings)
    run(application(settings), settings)

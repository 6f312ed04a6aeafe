"""The `emr` command. Exit codes: 0 done, 1 failed or unhealthy, 2 usage, 3 unavailable: it does not run."""

from __future__ import annotations

import os
import sys

import typer
from emr_common.receipts import ReceiptRefused
from emr_network.administration.files import FileInvalid
from emr_network.devnet import ControlFailed
from emr_network.fabric.programs import ProgramsMissing
from emr_network.organizations import RegistrationFailed
from emr_network.ports import PortTaken
from emr_network.topology import TopologyError
from hlf.errors import HlfError

from emr_deploy.administration.starting import NotStarted
from emr_deploy.administration.underway import ChangeUnderWay
from emr_deploy.backup import BackupUnusable
from emr_deploy.bundles import BundleUnreadable, ImportUnfinished
from emr_deploy.callers import Refused, Unreachable
from emr_deploy.commands import (
    access,
    backup,
    bundles,
    compose,
    config,
    demo,
    indexer,
    keys,
    network,
    people,
    queries,
    running,
    sign,
    verify,
)
from emr_deploy.commands.queries import QueryFailed
from emr_deploy.commands.sign import NotWhatItSays
from emr_deploy.kafka import KafkaFailed
from emr_deploy.postgres import PostgresFailed
from emr_deploy.readiness import NotReady
from emr_deploy.story.tables import RowsMissing
from emr_deploy.story.telling import StoryBroken
from emr_deploy.supervisor import SupervisorFailed
from emr_deploy.system import NothingHere, UsageError
from emr_deploy.tokens import TokenRefused

FAILED, USAGE, UNAVAILABLE = 1, 2, 3
EXIT_CODES: dict[type[Exception], int] = {
    Refused: FAILED,
    ReceiptRefused: FAILED,
    NotReady: FAILED,
    RegistrationFailed: FAILED,
    PostgresFailed: FAILED,
    KafkaFailed: FAILED,
    HlfError: FAILED,
    ChangeUnderWay: FAILED,
    StoryBroken: FAILED,
    RowsMissing: FAILED,
    ImportUnfinished: FAILED,
    QueryFailed: FAILED,
    NotWhatItSays: FAILED,
    BackupUnusable: FAILED,
    UsageError: USAGE,
    BundleUnreadable: USAGE,
    FileInvalid: USAGE,
    TopologyError: USAGE,
    NothingHere: UNAVAILABLE,
    Unreachable: UNAVAILABLE,
    TokenRefused: UNAVAILABLE,
    SupervisorFailed: UNAVAILABLE,
    NotStarted: UNAVAILABLE,
    ControlFailed: UNAVAILABLE,
    ProgramsMissing: UNAVAILABLE,
    PortTaken: UNAVAILABLE,
    UnicodeError: USAGE,
    RecursionError: USAGE,
    OSError: FAILED,
}
"""The last three are of what a person names: bytes that are no text, JSON without end, a folder in a file's place."""

app = typer.Typer(
    name="emr",
    help="CareLedger on this machine: hospitals that keep medical records and share them by consent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
SUBJECTS = (
    running,
    demo,
    access,
    queries,
    people,
    keys,
    bundles,
    network,
    indexer,
    backup,
    config,
    sign,
    verify,
    compose,
)
for subject in SUBJECTS:
    subject.register(app)


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a peer that goes away is no news here
    try:
        app()
    except tuple(EXIT_CODES) as error:
        print(f"emr: {error}", file=sys.stderr)
        sys.exit(next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind)))


if __name__ == "__main__":
    main()

"""The sharer as a process: a worker, and the HTTP side by which it is watched."""

from __future__ import annotations

from emr_common.http import create_app, run
from emr_common.settings import load

from emr_consent.settings import SharerSettings
from emr_consent.sharer.bootstrap import bootstrap


def main() -> None:
    settings = load(SharerSettings)
    app = create_app(
        title="CareLedger sharer",
        description="Shares approved snapshots, ends expired sharings, purges ended ones. No API of its own.",
        settings=settings,
        bootstrap=lambda: bootstrap(settings),
    )
    run(app, settings)

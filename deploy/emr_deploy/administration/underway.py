"""The one change of a network that is under way, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from emr_network.home import Home
from emr_network.topology import Chaincode, Organization
from pydantic import BaseModel, ConfigDict


class ChangeUnderWay(Exception):
    """Another change was begun and has to be finished first; the text says by which command."""


class Underway(BaseModel):
    """`organization` joins or leaves; `chaincode` is the version that comes into force."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["add-org", "remove-org", "upgrade-chaincode"]
    organization: Organization | None = None
    chaincode: Chaincode | None = None

    @property
    def command(self) -> str:
        subject = self.organization.name if self.organization else self.chaincode.version if self.chaincode else ""
        return f"emr network {self.kind} {subject}"


def underway(home: Home) -> Underway | None:
    file = _file(home)
    return Underway.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.exists() else None


def begin(home: Home, change: Underway) -> Underway:
    """What is under way now: `change`, or the same one as it was begun before. Raises ChangeUnderWay."""
    known = underway(home)
    if known is not None:
        if known.command != change.command:
            raise ChangeUnderWay(f"a change is under way: finish it first with {known.command}")
        return known
    content = yaml.safe_dump(change.model_dump(mode="json", by_alias=True), sort_keys=False)
    partial = _file(home).with_name(".underway.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(_file(home))
    return change


def finish(home: Home) -> None:
    _file(home).unlink(missing_ok=True)


def _file(home: Home) -> Path:
    return home.root / "underway.yaml"

"""Whose peers this process runs: those of the configuration file, and what was opened or removed since."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from hlf_devnet.config import ConfigError, Organization, Section, validated

FILE_NAME = "organizations.json"


class _Changes(Section):
    opened: tuple[Organization, ...] = ()
    removed: frozenset[str] = Field(default=frozenset())


class Roster:
    """Kept in one small file of the data folder, which is replaced as a whole and on disk before `add` or `remove`
    returns. A section in the configuration file wins over one that was opened with the same MSP id."""

    def __init__(self, path: Path, configured: Iterable[Organization], changes: _Changes) -> None:
        self._path = path
        self._configured = {member.msp_id: member for member in configured}
        self._changes = changes

    @classmethod
    def open(cls, data_dir: Path, configured: Iterable[Organization]) -> Self:
        """ConfigError if the file cannot be read."""
        path = data_dir / FILE_NAME
        try:
            content = json.loads(path.read_bytes()) if path.exists() else {}
            return cls(path, configured, validated(_Changes, content, data_dir))
        except (OSError, ValueError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error

    @property
    def organizations(self) -> Mapping[str, Organization]:
        """By MSP id."""
        opened = {member.msp_id: member for member in self._changes.opened}
        removed = self._changes.removed
        return {msp_id: one for msp_id, one in (opened | self._configured).items() if msp_id not in removed}

    def add(self, organization: Organization) -> None:
        others = [one for one in self._changes.opened if one.msp_id != organization.msp_id]
        self._write(_Changes(opened=(*others, organization), removed=self._changes.removed - {organization.msp_id}))

    def remove(self, msp_id: str) -> None:
        others = tuple(one for one in self._changes.opened if one.msp_id != msp_id)
        configured = {msp_id} & self._configured.keys()
        self._write(_Changes(opened=others, removed=self._changes.removed | configured))

    def _write(self, changes: _Changes) -> None:
        content: Any = changes.model_dump(mode="json")
        write_file(self._path, json.dumps(content, indent=1).encode())
        self._changes = changes


def write_file(path: Path, content: bytes) -> None:
    """All or nothing, and on disk when it returns."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from emr_common.sealing import WrappingKey, new_wrapping_keyset
from support.webhook_receiver import Receiver, webhook_receiver


@pytest.fixture(scope="session")
def keyset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("keys") / "wallet.keyset"
    path.write_text(new_wrapping_keyset())
    return path


@pytest.fixture(scope="session")
def wrapping(keyset: Path) -> WrappingKey:
    return WrappingKey.from_file(keyset)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path) as running:
        yield running

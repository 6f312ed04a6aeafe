import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.devnet_channel import Channel


@pytest.fixture(scope="session")
def new_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a channel with the chaincode defined; a copy of it opens faster than a new one is made."""
    folder = tmp_path_factory.mktemp("template") / "channel"
    Channel.create(folder).close()
    return folder


@pytest.fixture
def channel(tmp_path_factory: pytest.TempPathFactory, new_channel: Path) -> Iterator[Channel]:
    folder = tmp_path_factory.mktemp("channel") / "channel"
    shutil.copytree(new_channel, folder)
    channel = Channel.open(folder)
    yield channel
    channel.close()

"""Secrets are made once, for their owner alone, and differ between hospitals and uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from emr_common.sealing import SealingPrivateKey, SealingPublicKey, WrappingKey
from emr_deploy.secrets import make_secrets
from emr_network.home import TOPOLOGY, Home
from emr_network.topology import load


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    make_secrets(home, load(TOPOLOGY))
    return home


def _files(home: Home) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.secrets.rglob("*") if path.is_file()}


def test_no_one_else_can_read_them(home: Home) -> None:
    assert {path.stat().st_mode & 0o777 for path in _files(home)} == {0o600}


def test_no_two_are_the_same(home: Home) -> None:
    contents = list(_files(home).values())
    assert len(set(contents)) == len(contents)


def test_a_second_start_keeps_every_one(home: Home) -> None:
    before = _files(home)
    make_secrets(home, load(TOPOLOGY))
    assert _files(home) == before


def test_a_published_key_seals_for_the_hospitals_private_one(home: Home) -> None:
    public = SealingPublicKey(home.secret("a", "sealing-public.keyset").read_bytes())
    private = SealingPrivateKey.from_file(home.secret("a", "sealing-private.keyset"))
    assert private.open(public.seal(b"content", b"place"), b"place") == b"content"


def test_wrapping_and_wallet_keys_are_different(home: Home) -> None:
    wrapping = WrappingKey.from_file(home.secret("a", "wrapping.keyset"))
    wallet = WrappingKey.from_file(home.secret("a", "wallet.keyset"))
    sealed = wrapping.seal(b"key", "use", "name")
    from emr_common.sealing import SealingFailed

    with pytest.raises(SealingFailed):
        wallet.open(sealed, "use", "name")

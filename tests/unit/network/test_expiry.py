"""Whoever runs a network is told of certificates before they stop counting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from emr_network.expiry import expiring
from emr_network.home import TOPOLOGY, Home
from emr_network.material import make_material
from emr_network.topology import load


def test_a_new_network_has_no_certificate_that_ends_soon_and_an_old_one_tells_each_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_material(home, load(TOPOLOGY))
    assert expiring(home) == []
    in_a_year = datetime.now(UTC) + timedelta(days=350)
    ending = expiring(home, now=in_a_year)
    # Peers and orderer: signing and TLS each; two CAs' TLS; the orderers' administrator: signing and TLS.
    assert len(ending) == len({one.file for one in ending}) == 3 * 2 + 2 + 2
    assert not any(one.is_over for one in ending)
    assert all(one.is_over for one in expiring(home, now=in_a_year + timedelta(days=20)))

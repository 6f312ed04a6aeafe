"""Who cannot join a network is told so in one line, before anything is made."""

from __future__ import annotations

import pytest
from emr_deploy.commands.administration import newcomer_of
from emr_deploy.system import UsageError
from emr_network.home import TOPOLOGY
from emr_network.topology import TopologyError, load


def test_a_newcomer_has_what_it_is_not_given() -> None:
    newcomer = newcomer_of(load(TOPOLOGY), "c", "", "", "", 1, 0)
    assert (newcomer.msp_id, newcomer.title, newcomer.domain) == ("HospitalC", "Hospital C", "c.care.example")
    assert (newcomer.ports.peer, newcomer.ports.services) == (9051, 8300)


@pytest.mark.parametrize(
    ("name", "msp_id", "peers", "complaint"),
    [
        ("a", "", 1, "share a name"),
        ("c", "HospitalA", 1, "share a mspId"),
        ("c", "Orderer", 1, "share a mspId"),
        ("c", "9 lives", 1, "mspId"),
        ("c", "", 2, "ledger fabric"),
        ("c", "", 9, "peers"),
        ("Not/A/Name", "", 1, "name"),
    ],
)
def test_a_newcomer_who_cannot_be_meant_is_refused(name: str, msp_id: str, peers: int, complaint: str) -> None:
    topology = load(TOPOLOGY)
    with pytest.raises((UsageError, TopologyError), match=complaint):
        topology.with_organization(newcomer_of(topology, name, msp_id, "", "", peers, 0))

"""Who must endorse what: key-level policies, collections, and the chaincode's own policy."""

from collections.abc import Callable

import pytest
from hlf.policies import signature_policy
from hlf_devnet.policy import PolicyError
from hlf_devnet.simulator import Simulator
from support.devnet_channel import CHAINCODE, Channel

A, B = "HospitalA", "HospitalB"
OF_A, OF_B = "_implicit_org_HospitalA", "_implicit_org_HospitalB"
FAILURE = "ENDORSEMENT_POLICY_FAILURE"
BOTH = (A, B)

Run = Callable[[Simulator], None]


def put(key: str, value: bytes = b"new") -> Run:
    return lambda simulator: simulator.put_state(CHAINCODE, key, value)


def own(key: str, owner: str) -> Run:
    policy = {"VALIDATION_PARAMETER": signature_policy(1, [(owner, "peer")])}
    return lambda simulator: simulator.put_state_metadata(CHAINCODE, key, policy)


def disown(key: str) -> Run:
    return lambda simulator: simulator.put_state_metadata(CHAINCODE, key, {})


def put_private(collection: str, key: str = "p") -> Run:
    return lambda simulator: simulator.put_private(CHAINCODE, collection, key, b"secret")


def purge(collection: str, key: str = "p") -> Run:
    return lambda simulator: simulator.purge_private(CHAINCODE, collection, key)


def own_private(collection: str, key: str, owner: str) -> Run:
    policy = {"VALIDATION_PARAMETER": signature_policy(1, [(owner, "peer")])}
    return lambda simulator: simulator.put_private_metadata(CHAINCODE, collection, key, policy)


def together(*parts: Run) -> Run:
    def run(simulator: Simulator) -> None:
        for part in parts:
            part(simulator)

    return run


@pytest.fixture
def prepared(channel: Channel) -> Channel:
    """`a` and `b` are keys that HospitalA or HospitalB owns, `c` is nobody's own."""
    created = together(put("a"), own("a", A), put("b"), own("b", B), put("c"))
    assert channel.commit(channel.endorse(created)) == ["VALID"]
    return channel


CASES: list[tuple[str, Run, tuple[str, ...], str]] = [
    ("its owner may write a key of its own", put("a"), (A,), "VALID"),
    ("another may not", put("a"), (B,), FAILURE),
    ("both may", put("a"), BOTH, "VALID"),
    ("deleting is writing", put("a", b""), (B,), FAILURE),
    ("nobody alone writes a key without a policy", put("c"), (A,), FAILURE),
    ("a new key needs the chaincode's policy", put("d"), (A,), FAILURE),
    ("one key of the owner and one of nobody need both", together(put("a"), put("c")), (A,), FAILURE),
    ("keys of two owners need both", together(put("a"), put("b")), (A,), FAILURE),
    ("keys of two owners and both owners", together(put("a"), put("b")), BOTH, "VALID"),
    ("the owner may change the policy", own("a", B), (A,), "VALID"),
    ("another may not change the policy", own("a", B), (B,), FAILURE),
    ("the owner may give its key up", disown("a"), (A,), "VALID"),
    ("a first policy needs the chaincode's", own("c", A), (A,), FAILURE),
    ("a member may write its own collection", put_private(OF_A), (A,), "VALID"),
    ("and purge it", purge(OF_A), (A,), "VALID"),
    ("another may not write it", put_private(OF_A), (B,), FAILURE),
    ("nor purge it", purge(OF_A), (B,), FAILURE),
    ("two collections need both members", together(put_private(OF_A), put_private(OF_B)), (A,), FAILURE),
    ("an own key and the own collection need the owner", together(put("a"), purge(OF_A)), (A,), "VALID"),
    ("an own key and another's collection need both", together(put("a"), purge(OF_B)), (A,), FAILURE),
    ("a public write next to a private one needs both", together(put("d"), put_private(OF_A)), (A,), FAILURE),
    ("reading alone needs the chaincode's policy", lambda _: None, (A,), FAILURE),
]


@pytest.mark.parametrize(("run", "endorsers", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_writes_need_the_policies_of_their_keys(
    prepared: Channel, run: Run, endorsers: tuple[str, ...], code: str
) -> None:
    assert prepared.commit(prepared.endorse(run, endorsers)) == [code]


@pytest.mark.parametrize(("run", "endorsers", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_plan_asks_for_exactly_the_organizations_that_a_committer_wants(
    prepared: Channel, run: Run, endorsers: tuple[str, ...], code: str
) -> None:
    sets = prepared.policies.required_org_sets(prepared.simulate(run).policies)
    assert any(needed <= set(endorsers) for needed in sets) == (code == "VALID")


def test_a_policy_stands_from_the_next_block_on(prepared: Channel) -> None:
    assert prepared.commit(prepared.endorse(own("a", B), (A,))) == ["VALID"]
    assert prepared.commit(prepared.endorse(put("a"), (A,))) == [FAILURE]
    assert prepared.commit(prepared.endorse(put("a"), (B,))) == ["VALID"]


def test_a_write_behind_a_change_of_policy_in_one_block_is_invalid(prepared: Channel) -> None:
    change, write = prepared.endorse(own("a", B), (A,)), prepared.endorse(put("a"), BOTH)
    assert prepared.commit(change, write) == ["VALID", FAILURE]


def test_a_write_before_a_change_of_policy_in_one_block_is_valid(prepared: Channel) -> None:
    change, write = prepared.endorse(own("a", B), (A,)), prepared.endorse(put("a"), (A,))
    assert prepared.commit(write, change) == ["VALID", "VALID"]


def test_a_refused_change_of_policy_stands_in_nobodys_way(prepared: Channel) -> None:
    change, write = prepared.endorse(own("a", B), (B,)), prepared.endorse(put("a"), (A,))
    assert prepared.commit(change, write) == [FAILURE, "VALID"]


def test_a_value_keeps_its_policy_when_it_changes_and_loses_it_when_deleted(prepared: Channel) -> None:
    assert prepared.commit(prepared.endorse(put("a"), (A,))) == ["VALID"]
    assert prepared.commit(prepared.endorse(put("a"), (B,))) == [FAILURE]
    assert prepared.commit(prepared.endorse(put("a", b""), (A,))) == ["VALID"]
    assert prepared.commit(prepared.endorse(put("a"), (A,))) == [FAILURE]


def test_a_change_of_policy_conflicts_with_a_reader_of_the_value(prepared: Channel) -> None:
    def read_and_write(simulator: Simulator) -> None:
        simulator.get_state(CHAINCODE, "a")
        simulator.put_state(CHAINCODE, "c", b"new")

    reading = prepared.endorse(read_and_write)
    assert prepared.commit(prepared.endorse(own("a", B), (A,))) == ["VALID"]
    assert prepared.commit(reading) == ["MVCC_READ_CONFLICT"]


def test_a_policy_of_a_key_without_a_value_is_dropped(channel: Channel) -> None:
    assert channel.commit(channel.endorse(own("nothing", A))) == ["VALID"]
    assert channel.commit(channel.put("nothing", endorsers=(A,))) == [FAILURE]


def test_a_private_key_can_have_a_policy_of_its_own(channel: Channel) -> None:
    created = together(put_private(OF_A), own_private(OF_A, "p", B))
    assert channel.commit(channel.endorse(created)) == ["VALID"]
    assert channel.commit(channel.endorse(put_private(OF_A), (A,))) == [FAILURE]
    assert channel.commit(channel.endorse(put_private(OF_A), (B,))) == ["VALID"]
    assert channel.commit(channel.endorse(put_private(OF_A, "q"), (A,))) == ["VALID"]


def test_a_garbled_policy_of_a_key_lets_nobody_write_it(channel: Channel) -> None:
    endorsed = channel.put("k")
    garbled = together(
        put("k"), lambda simulator: simulator.put_state_metadata(CHAINCODE, "k", {"VALIDATION_PARAMETER": b"\xff"})
    )
    assert channel.commit(channel.endorse(garbled)) == ["VALID"]
    assert channel.commit(endorsed) == [FAILURE]
    with pytest.raises(PolicyError):
        channel.policies.required_org_sets(channel.simulate(put("k")).policies)

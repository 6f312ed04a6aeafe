from collections.abc import Sequence
from pathlib import Path

import pytest
from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from fabric_protos.peer import policy_pb2
from hlf import policies
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = Path(__file__).parent / "golden"
ROLES = ["member", "admin", "client", "peer", "orderer"]

principals = st.tuples(st.sampled_from(["HospitalA", "HospitalB", "Org.With.Dots"]), st.sampled_from(ROLES))
leaves = principals.map(lambda principal: f"'{principal[0]}.{principal[1]}'")


def gates(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(parts, min_size=1, max_size=4)
    named = st.tuples(st.sampled_from(["AND", "OR"]), lists).map(lambda gate: f"{gate[0]}({', '.join(gate[1])})")
    counted = lists.flatmap(lambda items: st.integers(1, len(items)).map(lambda n: f"OutOf({n}, {', '.join(items)})"))
    return named | counted


@given(st.recursive(leaves, gates, max_leaves=8))
def test_a_policy_means_the_same_after_being_described(text: str) -> None:
    assert policies.parse(policies.describe(policies.parse(text))) == policies.parse(text)


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("AND('A.peer','B.peer')", "AND('A.peer','B.peer')"),
        ("and( 'A.peer' , \"B.PEER\" )", "AND('A.peer','B.peer')"),
        ("OutOf(2,'A.peer','B.peer')", "AND('A.peer','B.peer')"),
        ("OutOf(1,'A.peer','B.peer')", "OR('A.peer','B.peer')"),
        ("OutOf(2,'A.peer',OR('B.admin','C.client'),'A.peer')", "OutOf(2,'A.peer',OR('B.admin','C.client'),'A.peer')"),
        ("'A.member'", "'A.member'"),
    ],
)
def test_text_forms(text: str, described: str) -> None:
    assert policies.describe(policies.parse(text)) == described


@pytest.mark.parametrize(
    "text",
    ["", "AND()", "AND('A.peer'", "AND('A.peer'))", "AND('A.peer' 'B.peer')", "A.peer", "'A'", "'.peer'", "'A.king'",
     "OutOf('A.peer')", "OutOf(0,'A.peer')", "OutOf(3,'A.peer','B.peer')", "XOR('A.peer')", "AND(,'A.peer')"],
)  # fmt: skip
def test_malformed_policies_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        policies.parse(text)


@pytest.mark.parametrize("n", [0, -1, 3])
def test_a_policy_that_cannot_be_met_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="cannot be met"):
        policies.signature_policy(n, [("A", "peer"), ("B", "peer")])


def test_our_bytes_are_those_that_official_tools_put_on_a_ledger() -> None:
    """The block is one in which the official `peer` committed AND('HospitalA.peer','HospitalB.peer')."""
    both: Sequence[tuple[str, str]] = [("HospitalA", "peer"), ("HospitalB", "peer")]
    ours = policies.signature_policy(2, both)
    application = policy_pb2.ApplicationPolicy(signature_policy=policies_pb2.SignaturePolicyEnvelope.FromString(ours))
    assert application.SerializeToString() in (GOLDEN / "lifecycle-commit.block").read_bytes()
    assert policies.parse("AND('HospitalA.peer','HospitalB.peer')") == ours


def test_members_are_listed_in_order() -> None:
    assert policies.members(policies.parse("AND('B.peer','A.peer')")) == ("B", "A")


@pytest.mark.parametrize("envelope", [b"\xff", policies_pb2.SignaturePolicyEnvelope(
    identities=[msp_principal_pb2.MSPPrincipal(principal_classification=1)]).SerializeToString()])  # fmt: skip
def test_what_is_no_policy_over_roles_is_not_described(envelope: bytes) -> None:
    with pytest.raises(ValueError):
        policies.describe(envelope)
    with pytest.raises(ValueError):
        policies.members(envelope)

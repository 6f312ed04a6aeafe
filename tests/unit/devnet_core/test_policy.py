"""What identities satisfy, and who would have to endorse."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from fabric_protos.common import policies_pb2
from fabric_protos.msp import msp_principal_pb2
from hlf import policies
from hlf.channel_config import config_of
from hlf_devnet.block_cutter import BatchSettings
from hlf_devnet.genesis import ChannelOrganization, ChannelSettings, genesis_block
from hlf_devnet.identities import VerifiedIdentity
from hlf_devnet.msp import MspRegistry
from hlf_devnet.policy import ChannelPolicies, PolicyError, channel_policy, key_level_policy, signature_policy
from hypothesis import given
from hypothesis import strategies as st
from support.devnet import Member, new_member

ORGANIZATIONS = ("A", "B", "C")


class Consortium:
    """Three hospitals; `who("A.peer", "B.client")` are members of them."""

    def __init__(self, folder: Path) -> None:
        self.members: dict[str, Member] = {name: new_member(name, folder / name) for name in (*ORGANIZATIONS, "O")}
        self.msps = MspRegistry.from_dirs({name: member.msp_dir for name, member in self.members.items()})
        settings = ChannelSettings(
            channel="c",
            organizations=[ChannelOrganization(self.msps.msp(name), ("localhost", 1)) for name in ORGANIZATIONS],
            orderer=self.msps.msp("O"),
            orderer_address="localhost:1",
            orderer_certificate=b"",
            batch=BatchSettings(),
        )
        self.policies = ChannelPolicies(config_of(genesis_block(settings)), self.msps)
        self._known: dict[str, VerifiedIdentity] = {}

    def who(self, *names: str) -> list[VerifiedIdentity]:
        return [self._identity(name) for name in names]

    def _identity(self, name: str) -> VerifiedIdentity:
        """`A.peer` is always the same one, `A.peer.2` another."""
        if name not in self._known:
            msp_id, role = name.split(".")[:2]
            self._known[name] = self.msps.validate(self.members[msp_id].identity(role=role).serialized)
        return self._known[name]


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    yield Consortium(tmp_path_factory.mktemp("consortium"))


CASES = [
    ("AND('A.peer','B.peer')", ["A.peer", "B.peer"], True),
    ("AND('A.peer','B.peer')", ["B.peer", "A.peer", "C.peer"], True),
    ("AND('A.peer','B.peer')", ["A.peer"], False),
    ("AND('A.peer','B.peer')", ["A.peer", "B.client"], False),
    ("AND('A.peer','A.peer')", ["A.peer"], False),
    ("AND('A.peer','A.peer')", ["A.peer", "A.peer"], False),
    ("AND('A.peer','A.peer')", ["A.peer", "A.peer.2"], True),
    ("OR('A.peer','B.peer')", ["B.peer"], True),
    ("OR('A.peer','B.peer')", ["C.peer"], False),
    ("OutOf(2,'A.peer','B.peer','C.peer')", ["A.peer", "C.peer"], True),
    ("OutOf(2,'A.peer','B.peer','C.peer')", ["A.peer", "A.peer.2"], False),
    ("AND('A.member','A.peer')", ["A.peer", "A.client"], False),  # the first gate takes the peer, as Fabric's does
    ("AND('A.member','A.peer')", ["A.client", "A.peer"], True),
    ("OR(AND('A.peer','B.peer'),'C.admin')", ["C.admin"], True),
    ("OR(AND('A.peer','B.peer'),'C.admin')", ["A.peer", "C.peer"], False),
    ("AND(OR('A.peer','B.peer'),OR('A.peer','C.peer'))", ["A.peer"], False),
    (
        "AND(OR('A.peer','B.peer'),OR('A.peer','C.peer'))",
        ["B.peer", "A.peer"],
        False,
    ),  # a gate takes all it can, as Fabric's does
    ("OR('A.member')", ["A.orderer"], True),
    ("OR('A.admin')", ["A.admin"], True),
    ("OR('A.admin')", [], False),
    ("/Channel/Application/Endorsement", ["A.peer", "B.peer"], True),
    ("/Channel/Application/Endorsement", ["A.peer"], False),
    ("/Channel/Application/Endorsement", ["A.peer", "B.client"], False),
    ("/Channel/Application/AllEndorsement", ["A.peer", "B.peer"], False),
    ("/Channel/Application/AllEndorsement", ["A.peer", "B.peer", "C.peer"], True),
    ("/Channel/Application/Admins", ["A.admin", "C.admin"], True),
    ("/Channel/Application/Admins", ["A.admin", "A.admin.2"], False),
    ("/Channel/Application/A/Endorsement", ["A.peer"], True),
    ("/Channel/Application/A/Endorsement", ["B.peer"], False),
    ("/Channel/Application/Writers", ["B.client"], True),
    ("/Channel/Application/Writers", ["B.peer"], False),
    ("/Channel/Readers", ["B.peer"], True),
    ("/Channel/Readers", ["O.orderer"], True),
    ("/Channel/Writers", ["A.client"], True),
    ("/Channel/Orderer/BlockValidation", ["O.orderer"], True),
    ("/Channel/Orderer/BlockValidation", ["A.peer"], False),
]


@pytest.mark.parametrize(("text", "names", "satisfied"), CASES)
def test_identities_satisfy_a_policy_or_not(
    consortium: Consortium, text: str, names: list[str], satisfied: bool
) -> None:
    policy = channel_policy(text) if text.startswith("/") else signature_policy(text)
    assert consortium.policies.evaluate(policy, consortium.who(*names)) is satisfied


PLANS = [
    (["AND('A.peer','B.peer')"], ["AB"]),
    (["OR('A.peer','B.peer')"], ["A", "B"]),
    (["OutOf(2,'A.peer','B.peer','C.peer')"], ["AB", "AC", "BC"]),
    (["OR('A.peer',AND('A.peer','B.peer'))"], ["A"]),
    (["OR('A.peer',AND('B.peer','C.peer'))"], ["A", "BC"]),
    (["/Channel/Application/Endorsement"], ["AB", "AC", "BC"]),
    (["/Channel/Application/AllEndorsement"], ["ABC"]),
    (["OR('A.peer','B.peer')", "/Channel/Application/C/Endorsement"], ["AC", "BC"]),
    (["OR('A.client')"], []),
    (["AND('A.peer','X.peer')"], []),
    ([], [""]),
]


@pytest.mark.parametrize(("texts", "sets"), PLANS)
def test_a_plan_names_the_smallest_sets_of_organizations(
    consortium: Consortium, texts: list[str], sets: list[str]
) -> None:
    wanted = [text if text.startswith("/") else signature_policy(text) for text in texts]
    assert consortium.policies.required_org_sets(wanted) == [frozenset(names) for names in sets]


def rules(depth: int = 2) -> st.SearchStrategy[str]:
    principals = st.sampled_from([f"'{name}.peer'" for name in ORGANIZATIONS])
    if depth == 0:
        return principals
    parts = st.lists(rules(depth - 1), min_size=1, max_size=3)
    return st.one_of(
        principals,
        parts.flatmap(lambda found: st.integers(1, len(found)).map(lambda n: f"OutOf({n},{','.join(found)})")),
    )


@given(text=rules())
def test_a_plan_is_sufficient_and_minimal(consortium: Consortium, text: str) -> None:
    policy = signature_policy(text)
    sets = consortium.policies.required_org_sets([policy])
    for size in range(len(ORGANIZATIONS) + 1):
        for chosen in combinations(ORGANIZATIONS, size):
            satisfied = consortium.policies.evaluate(policy, consortium.who(*(f"{name}.peer" for name in chosen)))
            assert satisfied == any(planned <= set(chosen) for planned in sets)


def _principal(kind: int, message: Any) -> Any:
    principal = msp_principal_pb2.MSPPrincipal(
        principal_classification=kind, principal=message if isinstance(message, bytes) else message.SerializeToString()
    )
    rule = policies_pb2.SignaturePolicy(signed_by=0)
    return policies_pb2.SignaturePolicyEnvelope(rule=rule, identities=[principal])


def test_a_policy_can_name_a_certificate_or_an_organizational_unit(consortium: Consortium) -> None:
    kinds = msp_principal_pb2.MSPPrincipal
    (peer, other) = consortium.who("A.peer", "A.peer.2")
    named = _principal(kinds.IDENTITY, peer.serialized)
    unit = _principal(
        kinds.ORGANIZATION_UNIT,
        msp_principal_pb2.OrganizationUnit(
            msp_identifier="A", organizational_unit_identifier="peer", certifiers_identifier=peer.chain_identifier
        ),
    )
    assert consortium.policies.evaluate(named, [peer])
    assert not consortium.policies.evaluate(named, [other])
    assert consortium.policies.evaluate(unit, [other])
    assert not consortium.policies.evaluate(unit, consortium.who("B.peer"))


def test_a_combined_principal_needs_all_its_parts(consortium: Consortium) -> None:
    kinds = msp_principal_pb2.MSPPrincipal
    roles = [
        msp_principal_pb2.MSPPrincipal(
            principal_classification=kinds.ROLE,
            principal=msp_principal_pb2.MSPRole(msp_identifier="A", role=role).SerializeToString(),
        )
        for role in (msp_principal_pb2.MSPRole.MEMBER, msp_principal_pb2.MSPRole.PEER)
    ]
    combined = _principal(kinds.COMBINED, msp_principal_pb2.CombinedPrincipal(principals=roles))
    assert consortium.policies.evaluate(combined, consortium.who("A.peer"))
    assert not consortium.policies.evaluate(combined, consortium.who("A.client"))


def test_a_key_level_policy_is_a_bare_signature_policy(consortium: Consortium) -> None:
    policy = key_level_policy(policies.signature_policy(1, [("A", "peer")]))
    assert consortium.policies.evaluate(policy, consortium.who("A.peer"))
    assert not consortium.policies.evaluate(policy, consortium.who("B.peer"))


@pytest.mark.parametrize(
    "policy",
    [
        b"\xff",
        b"",
        channel_policy("/Channel/Application/Nothing"),
        channel_policy("Application/Endorsement"),
        channel_policy("/Channel/Nobody/Endorsement"),
        policies_pb2.SignaturePolicyEnvelope(rule=policies_pb2.SignaturePolicy(signed_by=3)),
        policies_pb2.SignaturePolicyEnvelope(version=1),
        policies_pb2.SignaturePolicyEnvelope(),
    ],
)
def test_a_policy_that_is_none_is_an_error(consortium: Consortium, policy: Any) -> None:
    with pytest.raises(PolicyError):
        consortium.policies.evaluate(policy, consortium.who("A.peer"))


def test_only_the_collections_of_members_have_policies(consortium: Consortium) -> None:
    assert consortium.policies.collection_policy("_implicit_org_A") == "/Channel/Application/A/Endorsement"
    for name in ("_implicit_org_X", "A", ""):
        with pytest.raises(PolicyError):
            consortium.policies.collection_policy(name)

"""Signatures of official orderers, from golden blocks; and policies that an official network of one orderer lacks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.msp import msp_config_pb2, msp_principal_pb2
from hlf import policies
from hlf.blocks import Block, block_header_bytes, decode_block
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.identity import SigningIdentity
from hlf.orderers import OrdererSignatures
from support.hlf_blocks import Chain

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> Block:
    return decode_block(common_pb2.Block.FromString((GOLDEN / f"{name}.block").read_bytes()))


def changed(block: Block, signatures: bytes) -> Block:
    message = common_pb2.Block.FromString(block.raw)
    message.metadata.metadata[common_pb2.SIGNATURES] = signatures
    return decode_block(message)


@pytest.mark.parametrize("name", ["lifecycle-commit", "write", "conflict"])
def test_official_blocks_are_signed_by_the_channels_orderers(name: str) -> None:
    OrdererSignatures(golden("genesis")).verify(golden(name))


def test_a_block_with_the_signature_of_another_is_refused() -> None:
    other = golden("write").message.metadata.metadata[common_pb2.SIGNATURES]
    with pytest.raises(ValueError, match="block 11 is not signed"):
        OrdererSignatures(golden("genesis")).verify(changed(golden("delete"), other))


@pytest.mark.parametrize("signatures", [b"", b"\xff", common_pb2.Metadata(value=b"v").SerializeToString()])
def test_a_block_without_signatures_is_refused(signatures: bytes) -> None:
    with pytest.raises(ValueError, match=r"signatures of block|is not signed"):
        OrdererSignatures(golden("genesis")).verify(changed(golden("write"), signatures))


def test_trust_starts_from_a_configuration_block() -> None:
    with pytest.raises(ValueError, match="no configuration block"):
        OrdererSignatures(golden("write"))


def test_the_trusted_block_itself_needs_no_signature_and_another_in_its_place_is_refused() -> None:
    verifier = OrdererSignatures(golden("genesis"))
    verifier.verify(golden("genesis"))
    other = Network(["O"], "ANY").genesis
    with pytest.raises(ValueError, match="not the trusted configuration block"):
        verifier.verify(other)


class Network:
    """Orderer organizations, each with a CA and one orderer, and the chain they sign."""

    def __init__(self, names: Sequence[str], rule: str, *, revoked: Sequence[str] = ()) -> None:
        self.authorities = {name: CertificateAuthority.create(f"ca.{name}", name) for name in names}
        self.orderers = {name: self.member(name) for name in names}
        self.revoked = {name: [self.orderers[name].identity.certificate.serial_number] for name in revoked}
        self.rule = rule
        self.chain = Chain()
        self.genesis = decode_block(self.chain.add([self.configuration()]))

    def member(self, name: str, unit: str = "orderer") -> SigningIdentity:
        key = new_private_key()
        certificate = self.authorities[name].issue(f"{unit}.{name}", key.public_key(), organizational_units=[unit])
        return SigningIdentity(name, certificate_to_pem(certificate), key)

    def configuration(self) -> bytes:
        config = configtx_pb2.ConfigEnvelope()
        group = config.config.channel_group.groups["Orderer"]
        group.policies["BlockValidation"].policy.CopyFrom(self.block_validation())
        for name in self.authorities:
            part = group.groups[name]
            part.values["MSP"].value = self.msp_config(name)
            part.policies["Writers"].policy.type = policies_pb2.Policy.SIGNATURE
            part.policies["Writers"].policy.value = policies.signature_policy(1, [(name, "orderer")])
        group.values["Orderers"].value = self.consenters()
        header = common_pb2.ChannelHeader(type=common_pb2.CONFIG, channel_id="care").SerializeToString()
        payload = common_pb2.Payload(data=config.SerializeToString())
        payload.header.channel_header = header
        return bytes(common_pb2.Envelope(payload=payload.SerializeToString()).SerializeToString())

    def block_validation(self) -> policies_pb2.Policy:
        if self.rule == "BFT":
            return self.bft_policy()
        rule = policies_pb2.ImplicitMetaPolicy.Rule.Value(self.rule)
        meta = policies_pb2.ImplicitMetaPolicy(rule=rule, sub_policy="Writers")
        return policies_pb2.Policy(type=policies_pb2.Policy.IMPLICIT_META, value=meta.SerializeToString())

    def bft_policy(self) -> policies_pb2.Policy:
        """As Fabric makes it for BFT: a quorum of the very identities of the consenters."""
        envelope = policies_pb2.SignaturePolicyEnvelope()
        for index, orderer in enumerate(self.orderers.values()):
            envelope.identities.add(
                principal_classification=msp_principal_pb2.MSPPrincipal.IDENTITY, principal=orderer.serialized
            )
            envelope.rule.n_out_of.rules.add(signed_by=index)
        envelope.rule.n_out_of.n = 3
        return policies_pb2.Policy(type=policies_pb2.Policy.SIGNATURE, value=envelope.SerializeToString())

    def consenters(self) -> bytes:
        orderers = configuration_pb2.Orderers()
        for number, (name, orderer) in enumerate(self.orderers.items(), start=1):
            orderers.consenter_mapping.add(id=number, msp_id=name, identity=orderer.certificate_pem)
        return bytes(orderers.SerializeToString())

    def msp_config(self, name: str) -> bytes:
        authority = self.authorities[name]
        fabric = msp_config_pb2.FabricMSPConfig(name=name, root_certs=[authority.certificate_pem])
        fabric.fabric_node_ous.enable = True
        fabric.fabric_node_ous.orderer_ou_identifier.organizational_unit_identifier = "orderer"
        if name in self.revoked:
            now = datetime.now(UTC)
            fabric.revocation_list.append(authority.crl([(serial, now) for serial in self.revoked[name]]))
        return bytes(msp_config_pb2.MSPConfig(config=fabric.SerializeToString()).SerializeToString())

    def block(self, *signers: SigningIdentity, envelope: bytes = b"", by_number: Sequence[int] = ()) -> Block:
        message = self.chain.add([envelope], codes=b"\x00" if envelope else b"\x01")
        header = block_header_bytes(message.header.number, message.header.previous_hash, message.header.data_hash)
        metadata = common_pb2.Metadata(value=b"last configuration")
        for signer in signers:
            opening = common_pb2.SignatureHeader(creator=signer.serialized, nonce=b"n").SerializeToString()
            signature = signer.sign(metadata.value + opening + header)
            metadata.signatures.add(signature_header=opening, signature=signature)
        for number in by_number:
            signer = list(self.orderers.values())[(number - 1) % len(self.orderers)]
            opening = common_pb2.IdentifierHeader(identifier=number, nonce=b"n").SerializeToString()
            signature = signer.sign(metadata.value + opening + header)
            metadata.signatures.add(identifier_header=opening, signature=signature)
        message.metadata.metadata[common_pb2.SIGNATURES] = metadata.SerializeToString()
        return decode_block(message)


def is_accepted(network: Network, block: Block) -> bool:
    try:
        OrdererSignatures(network.genesis).verify(block)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "signers", "accepted"),
    [
        ("ANY", ["A"], True),
        ("ANY", [], False),
        ("MAJORITY", ["A"], False),
        ("MAJORITY", ["A", "A"], False),
        ("MAJORITY", ["A", "B"], True),
        ("ALL", ["A", "B"], False),
        ("ALL", ["A", "B", "C"], True),
    ],
)
def test_as_many_organizations_as_the_policy_wants_must_have_signed(
    rule: str, signers: list[str], accepted: bool
) -> None:
    network = Network(["A", "B", "C"], rule)
    assert is_accepted(network, network.block(*(network.orderers[name] for name in signers))) == accepted


def test_a_member_who_is_no_orderer_does_not_count() -> None:
    network = Network(["A"], "ANY")
    assert not is_accepted(network, network.block(network.member("A", "peer")))


def test_an_orderer_of_a_stranger_does_not_count() -> None:
    network, stranger = Network(["A"], "ANY"), Network(["A"], "ANY")
    assert not is_accepted(network, network.block(stranger.orderers["A"]))


def test_a_revoked_orderer_does_not_count() -> None:
    network = Network(["A", "B"], "ANY", revoked=["A"])
    assert not is_accepted(network, network.block(network.orderers["A"]))
    assert is_accepted(network, network.block(network.orderers["B"]))


@pytest.mark.parametrize(
    ("numbers", "accepted"), [([1, 2, 3], True), ([1, 2], False), ([1, 2, 2], False), ([9], False)]
)
def test_bft_orderers_name_themselves_by_number(numbers: list[int], accepted: bool) -> None:
    network = Network(["A", "B", "C", "D"], "BFT")
    assert is_accepted(network, network.block(by_number=numbers)) == accepted


def test_a_new_configuration_counts_from_the_next_block_on() -> None:
    network, successor = Network(["A"], "ANY"), Network(["A"], "ANY")
    verifier = OrdererSignatures(network.genesis)
    verifier.verify(network.block(network.orderers["A"], envelope=successor.configuration()))
    with pytest.raises(ValueError, match="is not signed"):
        verifier.verify(network.block(network.orderers["A"]))
    verifier.verify(network.block(successor.orderers["A"]))


def test_a_configuration_that_is_not_signed_is_not_adopted() -> None:
    network, intruder = Network(["A"], "ANY"), Network(["A"], "ANY")
    verifier = OrdererSignatures(network.genesis)
    with pytest.raises(ValueError, match="is not signed"):
        verifier.verify(network.block(intruder.orderers["A"], envelope=intruder.configuration()))
    verifier.verify(network.block(network.orderers["A"]))

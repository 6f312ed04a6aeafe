"""Channel definitions: what is accepted, and what would make a channel that nobody could use or change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.orderer import configuration_pb2 as orderer_pb2
from hlf import crypto
from hlf.admin import validation
from hlf.admin.channel import (
    ChannelDefinition,
    Consenter,
    OrdererOrganization,
    PeerOrganization,
    config_value,
    organization_group,
)
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.genesis import genesis_block
from hlf.admin.msp import MspDefinition
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem


def definition() -> ChannelDefinition:
    organizations = tuple(
        PeerOrganization(new_msp(name)[0], (f"127.0.0.1:{port}",)) for name, port in [("A", 1), ("B", 2)]
    )
    msp, tls_authority = new_msp("Orderer")
    key = crypto.new_private_key()
    certificate = tls_authority.issue("orderer", key.public_key(), purpose=Purpose.TLS, sans=["127.0.0.1"])
    consenter = Consenter("127.0.0.1:7050", certificate_to_pem(certificate))
    orderer = OrdererOrganization(msp, ("127.0.0.1:7050",))
    return ChannelDefinition("care", organizations, (orderer,), (consenter,))


def new_msp(msp_id: str) -> tuple[MspDefinition, CertificateAuthority]:
    authority, tls_authority = (CertificateAuthority.create(f"{kind}.{msp_id}", msp_id) for kind in ("ca", "tlsca"))
    return MspDefinition(msp_id, (authority.certificate_pem,), (tls_authority.certificate_pem,)), tls_authority


def test_a_genesis_block_carries_the_definition_and_fits_fabrics_form() -> None:
    block = genesis_block(definition())
    assert block.header.number == 0
    assert block.header.previous_hash == b""
    assert block.header.data_hash == crypto.sha256(*block.data.data)
    assert len(block.metadata.metadata) == 5
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(block.data.data[0]).payload)
    config = configtx_pb2.ConfigEnvelope.FromString(payload.data).config
    assert sorted(config.channel_group.groups["Application"].groups) == ["A", "B"]


Change = Callable[[Any], None]


def empty_mod_policy(channel: Any) -> None:
    channel.groups["Application"].groups["A"].values["MSP"].mod_policy = ""


def unknown_mod_policy(channel: Any) -> None:
    channel.groups["Application"].mod_policy = "Admins"
    channel.groups["Application"].values["Capabilities"].mod_policy = "Nobody"


def no_unit(channel: Any) -> None:
    value = config_value(orderer_pb2.BatchTimeout(timeout="2"))
    channel.groups["Orderer"].values["BatchTimeout"].CopyFrom(value)


def malformed_msp_id(channel: Any) -> None:
    msp, _ = new_msp("A B")
    channel.groups["Application"].groups["A B"].CopyFrom(organization_group(PeerOrganization(msp, ())))


def foreign_msp(channel: Any) -> None:
    other = channel.groups["Application"].groups["B"].values["MSP"]
    channel.groups["Application"].groups["A"].values["MSP"].CopyFrom(other)


def without(*path: str) -> Change:
    def change(channel: Any) -> None:
        target = channel
        for name in path[:-2]:
            target = target.groups[name]
        del getattr(target, path[-2])[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (empty_mod_policy, "empty mod_policy"),
        (unknown_mod_policy, "'Nobody', which is not there"),
        (no_unit, "needs a number and a unit"),
        (malformed_msp_id, "not a well-formed MSP id"),
        (foreign_msp, "its MSP is named 'B'"),
        (without("values", "HashingAlgorithm"), "HashingAlgorithm"),
        (without("Application", "policies", "LifecycleEndorsement"), "LifecycleEndorsement"),
        (without("Application", "A", "policies", "Admins"), "Admins"),
        (without("Orderer", "Orderer", "values", "Endpoints"), "Endpoints"),
        (without("Orderer", "policies", "BlockValidation"), "BlockValidation"),
    ],
)
def test_a_configuration_that_would_lock_its_members_out_is_refused(change: Change, complaint: str) -> None:
    config = configtx_pb2.Config(channel_group=definition().to_group())
    change(config.channel_group)
    with pytest.raises(ConfigurationInvalid, match=complaint):
        validation.check(config)


def test_a_consenter_whose_certificate_is_of_another_authority_is_refused() -> None:
    good, stranger = definition(), definition()
    with pytest.raises(ConfigurationInvalid, match="of no orderer organization's CA"):
        genesis_block(replace(good, consenters=stranger.consenters))


def test_two_consenters_at_one_address_are_refused() -> None:
    good = definition()
    with pytest.raises(ConfigurationInvalid, match="same address"):
        genesis_block(replace(good, consenters=good.consenters * 2))

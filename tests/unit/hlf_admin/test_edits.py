"""A change of the configuration is what was asked for, is refused in words, or is there already."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fabric_protos.common import configtx_pb2
from hlf.admin import edits, update, validation
from hlf.admin.channel import (
    BatchSettings,
    ChannelDefinition,
    Consenter,
    OrdererOrganization,
    PeerOrganization,
    organization_group,
)
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.msp import MspDefinition
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key


def msp(msp_id: str) -> MspDefinition:
    authority, tls = (CertificateAuthority.create(name, msp_id) for name in ("ca", "tlsca"))
    return MspDefinition(msp_id, (authority.certificate_pem,), (tls.certificate_pem,))


def organization(msp_id: str) -> PeerOrganization:
    return PeerOrganization(msp(msp_id), ("127.0.0.1:7051",))


MSP_A = msp("HospitalA")
A, B, C = PeerOrganization(MSP_A, ("127.0.0.1:7051",)), organization("HospitalB"), organization("HospitalC")


@pytest.fixture(name="config", scope="module")
def _config() -> Any:
    authority, tls = (CertificateAuthority.create(name, "Orderer") for name in ("ca", "tlsca"))
    certificate = tls.issue("orderer0", new_private_key().public_key(), purpose=Purpose.TLS)
    ordering = MspDefinition("Orderer", (authority.certificate_pem,), (tls.certificate_pem,))
    consenter = Consenter("127.0.0.1:6050", certificate_to_pem(certificate))
    orderers = (OrdererOrganization(ordering, ("127.0.0.1:6050",)),)
    definition = ChannelDefinition("care", (A, B), orderers, (consenter,))
    return configtx_pb2.Config(channel_group=definition.to_group())


def test_a_hospital_is_added_and_taken_out_again(config: Any) -> None:
    added = edits.with_organization(config, C)
    validation.check(added)
    assert edits.members(added) == ("HospitalA", "HospitalB", "HospitalC")
    assert edits.definition_of(added, "HospitalC") == C.msp
    assert [path for path, _ in update.changed_elements(config, update.compute("care", config, added))] == [
        "/Channel/Application"
    ]
    assert edits.without_organization(added, "HospitalC") == config
    assert edits.orderer_addresses(config) == ("127.0.0.1:6050",)


def test_what_is_there_already_changes_nothing(config: Any) -> None:
    assert edits.with_organization(config, A) == config
    assert edits.without_organization(config, "HospitalC") == config
    assert edits.with_revocations(config, "HospitalA", []) == config


@pytest.mark.parametrize(
    ("newcomer", "complaint"),
    [
        (organization("HospitalA"), "has an organization HospitalA already"),
        (organization("Orderer"), "of an organization that orders"),
        (organization("Hospital C"), "not a well-formed MSP id"),
        (organization(""), "not a well-formed MSP id"),
        (PeerOrganization(MspDefinition("HospitalC", MSP_A.root_certs, MSP_A.tls_root_certs), ()), "of HospitalA"),
    ],
)
def test_a_newcomer_who_cannot_be_meant_is_refused(config: Any, newcomer: PeerOrganization, complaint: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=complaint):
        edits.with_organization(config, newcomer)


def test_the_last_hospital_stays(config: Any) -> None:
    alone = edits.without_organization(config, "HospitalB")
    with pytest.raises(ConfigurationInvalid, match="only organization"):
        edits.without_organization(alone, "HospitalA")


def test_a_revocation_list_is_in_the_members_msp(config: Any) -> None:
    changed = edits.with_revocations(config, "HospitalB", [b"list"])
    assert edits.definition_of(changed, "HospitalB").revocation_list == (b"list",)
    assert edits.definition_of(changed, "HospitalA") == A.msp
    with pytest.raises(ConfigurationInvalid, match="no organization HospitalC"):
        edits.with_revocations(config, "HospitalC", [b"list"])


def test_blocks_are_cut_otherwise(config: Any) -> None:
    changed = edits.with_batch(config, BatchSettings(timedelta(milliseconds=200), max_messages=10))
    changes = update.changed_elements(config, update.compute("care", config, changed))
    assert {path for path, _ in changes} == {"/Channel/Orderer/BatchSize", "/Channel/Orderer/BatchTimeout"}


def test_an_element_that_nobody_could_change_is_refused_before_anything_is_signed(config: Any) -> None:
    group = organization_group(C)
    group.policies["Admins"].mod_policy = ""
    changed = configtx_pb2.Config()
    changed.CopyFrom(config)
    changed.channel_group.groups["Application"].groups["HospitalC"].CopyFrom(group)
    with pytest.raises(ConfigurationInvalid, match="empty mod_policy"):
        validation.check(changed)

"""A detached signature counts when an administrator of the channel made it over this update, and says otherwise why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fabric_protos.common import configtx_pb2
from hlf.admin import edits, signatures, update
from hlf.admin.channel import BatchSettings, ChannelDefinition, Consenter, OrdererOrganization, PeerOrganization
from hlf.admin.errors import ConfigurationInvalid
from hlf.admin.msp import MspDefinition
from hlf.admin.verification import verified_signer
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key
from hlf.identity import SigningIdentity

LONG_AGO = datetime.now(UTC) - timedelta(days=500)
AUTHORITIES = {
    name: CertificateAuthority.create(f"ca.{name}", name, now=LONG_AGO)
    for name in ("HospitalA", "HospitalB", "Orderer")
}


def administrator(msp_id: str, *, unit: str = "admin", authority: str = "", days: int = 365) -> SigningIdentity:
    key = new_private_key()
    end = datetime.now(UTC) + timedelta(days=days)
    issuer = AUTHORITIES[authority or msp_id]
    certificate = issuer.issue(
        "admin", key.public_key(), organizational_units=[unit], not_after=end, now=end - timedelta(days=400)
    )
    return SigningIdentity(msp_id, certificate_to_pem(certificate), key)


@pytest.fixture(name="config", scope="module")
def _config() -> Any:
    tls = CertificateAuthority.create("tlsca", "Orderer")
    certificate = tls.issue("orderer0", new_private_key().public_key(), purpose=Purpose.TLS)
    msps = {
        name: MspDefinition(name, (one.certificate_pem,), (tls.certificate_pem,)) for name, one in AUTHORITIES.items()
    }
    definition = ChannelDefinition(
        "care",
        tuple(PeerOrganization(msps[name], ()) for name in ("HospitalA", "HospitalB")),
        (OrdererOrganization(msps["Orderer"], ("127.0.0.1:6050",)),),
        (Consenter("127.0.0.1:6050", certificate_to_pem(certificate)),),
    )
    return configtx_pb2.Config(channel_group=definition.to_group())


def proposal(config: Any, messages: int = 10) -> bytes:
    wanted = edits.with_batch(config, BatchSettings(max_messages=messages))
    return bytes(update.compute("care", config, wanted).SerializeToString(deterministic=True))


def test_an_administrators_signature_is_theirs(config: Any) -> None:
    for msp_id in ("HospitalA", "Orderer"):
        signature = signatures.sign(proposal(config), administrator(msp_id))
        assert verified_signer(config, proposal(config), signature) == msp_id


@pytest.mark.parametrize(
    ("signer", "complaint"),
    [
        (administrator("HospitalA", unit="client"), "no administrator"),
        (administrator("HospitalA", authority="HospitalB"), "foreign"),
        (administrator("HospitalA", days=-1), "expired"),
        (administrator("HospitalC", authority="HospitalA"), "no organization of the channel"),
    ],
)
def test_whoever_may_not_sign_is_named(config: Any, signer: SigningIdentity, complaint: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=complaint):
        verified_signer(config, proposal(config), signatures.sign(proposal(config), signer))


def test_a_signature_of_another_update_is_good_for_nothing(config: Any) -> None:
    signature = signatures.sign(proposal(config), administrator("HospitalA"))
    with pytest.raises(ConfigurationInvalid, match="another update"):
        verified_signer(config, proposal(config, 11), signature)
    for octets in (b"", b"\xff", signature[:40]):
        with pytest.raises(ConfigurationInvalid):
            verified_signer(config, proposal(config), octets)

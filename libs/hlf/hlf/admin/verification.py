"""Whose detached signature it is, before anybody hands it in: orderers only say that a policy is not satisfied."""

from datetime import UTC, datetime
from typing import Any

from fabric_protos.common import common_pb2, configtx_pb2
from fabric_protos.msp import msp_principal_pb2
from google.protobuf.message import DecodeError

from hlf.admin.errors import ConfigurationInvalid
from hlf.channel_config import organization_msp
from hlf.identity import Identity
from hlf.msp import Msp


def verified_signer(config: Any, config_update: bytes, signature: bytes, *, now: datetime | None = None) -> str:
    """The MSP id of the administrator who made a `common.ConfigSignature` over a serialized `common.ConfigUpdate`.

    ConfigurationInvalid unless it is good, its certificate valid now, and its signer an administrator of an
    organization in `config`.
    """
    try:
        message = configtx_pb2.ConfigSignature.FromString(signature)
        creator = common_pb2.SignatureHeader.FromString(message.signature_header).creator
        identity = Identity.from_serialized(creator)
        certificate = identity.certificate
    except (DecodeError, ValueError) as error:
        raise ConfigurationInvalid(["not a signature of a configuration update"]) from error
    msp_id = identity.msp_id
    msp = _msp_of(config, msp_id)
    if msp is None:
        raise ConfigurationInvalid([f"{msp_id} has signed, and is no organization of the channel"])
    if not msp.has_member(identity):
        raise ConfigurationInvalid([f"who signed for {msp_id} has a foreign or a revoked certificate"])
    if not msp.has_role(identity, msp_principal_pb2.MSPRole.ADMIN):
        raise ConfigurationInvalid([f"who signed for {msp_id} is no administrator"])
    if not certificate.not_valid_before_utc <= (now or datetime.now(UTC)) < certificate.not_valid_after_utc:
        raise ConfigurationInvalid([f"the certificate that signed for {msp_id} has expired"])
    if not identity.verify(message.signature, message.signature_header + config_update):
        raise ConfigurationInvalid([f"the signature of {msp_id} is of another update"])
    return msp_id


def _msp_of(config: Any, msp_id: str) -> Msp | None:
    for section in ("Application", "Orderer"):
        groups = config.channel_group.groups[section].groups
        if msp_id in groups:
            return organization_msp(groups[msp_id])
    return None

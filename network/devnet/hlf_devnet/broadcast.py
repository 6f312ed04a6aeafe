"""What an orderer takes: the filters of a standard channel (`orderer/common/msgprocessor`), and updates of its
configuration (`common/configtx`)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from fabric_protos.common import common_pb2, configtx_pb2
from google.protobuf.message import DecodeError
from hlf.admin import update
from hlf.admin.errors import ConfigurationInvalid
from hlf.gateway.headers import new_headers
from hlf.identity import SigningIdentity

from hlf_devnet.bundle import Bundles, ChannelBundle, ConfigurationRefused
from hlf_devnet.msp import IdentityError, VerifiedIdentity
from hlf_devnet.policy import PolicyError

WRITERS: Final = "/Channel/Writers"
_INITIAL: Final = "config update for existing channel did not pass initial checks: "
_FINAL: Final = "config update for existing channel did not pass final checks: "


class BroadcastRefused(Exception):
    """An envelope that the orderer does not take. `status`: a `common.Status` number; the text is Fabric's `info`."""

    def __init__(self, status: int, info: str) -> None:
        super().__init__(info)
        self.status = status
        self.info = info


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope with its parts."""

    envelope: Any
    payload: Any
    channel_header: Any
    creator: bytes

    @property
    def is_config_update(self) -> bool:
        return bool(self.channel_header.type == common_pb2.CONFIG_UPDATE)


def check_envelope(content: bytes, channel: str, bundle: ChannelBundle) -> Message:
    """The envelope, which the channel's configuration allows to be ordered. BroadcastRefused."""
    message = _parsed(content)
    header_type = message.channel_header.type
    if message.channel_header.channel_id != channel:
        _bad_request("channel does not exist")
    if header_type in (common_pb2.CONFIG, common_pb2.ORDERER_TRANSACTION):
        _bad_request("message is of type that cannot be processed directly")
    _apply_filters(message, bundle, _INITIAL if message.is_config_update else "")
    return message


def proposed_configuration(
    message: Message, channel: str, bundle: ChannelBundle, bundles: Bundles, signer: SigningIdentity
) -> bytes:
    """The serialized CONFIG envelope that a configuration update becomes, signed by the orderer. BroadcastRefused."""
    try:
        config = _updated(message, channel, bundle)
        _check_compatible(bundle, bundles.of(config))
    except (ConfigurationInvalid, ConfigurationRefused) as error:
        _bad_request(f"error applying config update to existing channel '{channel}': {error}")
    envelope = configtx_pb2.ConfigEnvelope(config=config, last_update=message.envelope)
    proposed = _signed(channel, envelope.SerializeToString(deterministic=True), signer)
    _apply_filters(_parsed(proposed), bundle, _FINAL)
    return proposed


def _parsed(content: bytes) -> Message:
    try:
        envelope = common_pb2.Envelope.FromString(content)
        payload = common_pb2.Payload.FromString(envelope.payload)
        channel_header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    except DecodeError:
        _bad_request("could not determine channel ID: malformed envelope")
    return Message(envelope, payload, channel_header, signature_header.creator)


def _apply_filters(message: Message, bundle: ChannelBundle, prefix: str) -> None:
    envelope, limit = message.envelope, bundle.batch.absolute_max_bytes
    if not envelope.payload:
        _bad_request(f"{prefix}Message was empty")
    size = len(envelope.payload) + len(envelope.signature)
    if size > limit:
        _bad_request(f"{prefix}message payload is {size} bytes and exceeds maximum allowed {limit} bytes")
    if not _may_write(message, bundle, prefix):
        reason = bundle.policies.why_not(WRITERS, [])
        raise BroadcastRefused(common_pb2.FORBIDDEN, f"{prefix}{reason}: permission denied")


def _may_write(message: Message, bundle: ChannelBundle, prefix: str) -> bool:
    bundle.msps.reload_revocations()
    try:
        identity = bundle.msps.validate(message.creator)
    except IdentityError:
        return False
    if datetime.now(UTC) > identity.not_after:
        _bad_request(f"{prefix}broadcast client identity expired")
    signed = bundle.msps.verify(identity, message.envelope.payload, message.envelope.signature)
    return signed and bundle.policies.evaluate(WRITERS, [identity])


def _updated(message: Message, channel: str, bundle: ChannelBundle) -> Any:
    """The `common.Config` after the update. ConfigurationInvalid unless everything in it is allowed."""
    failed = "error authorizing update: "
    try:
        signed = configtx_pb2.ConfigUpdateEnvelope.FromString(message.payload.data)
        change = configtx_pb2.ConfigUpdate.FromString(signed.config_update)
    except DecodeError as error:
        raise ConfigurationInvalid(["error converting envelope to config update: malformed"]) from error
    if change.channel_id != channel:
        raise ConfigurationInvalid(
            [f"{failed}ConfigUpdate for channel '{change.channel_id}' but envelope for channel '{channel}'"]
        )
    signers = _signers(signed, bundle)
    try:
        return update.apply(bundle.config, change, lambda element, policy: _authorize(element, policy, bundle, signers))
    except ConfigurationInvalid as error:
        raise ConfigurationInvalid([f"{failed}{error}"]) from error


def _authorize(element: str, policy: str, bundle: ChannelBundle, signers: list[VerifiedIdentity]) -> None:
    try:
        reason = bundle.policies.why_not(policy, signers)
    except PolicyError as error:
        name = policy.rpartition("/")[2]
        raise ConfigurationInvalid(
            [f"error validating DeltaSet: unexpected missing policy {name} for item {element}"]
        ) from error
    if reason is not None:
        raise ConfigurationInvalid([f"error validating DeltaSet: policy for {element} not satisfied: {reason}"])


def _signers(signed: Any, bundle: ChannelBundle) -> list[VerifiedIdentity]:
    """Whose signature holds, each member once; what does not hold is as if it were not there."""
    found: dict[bytes, VerifiedIdentity] = {}
    for signature in signed.signatures:
        try:
            creator = common_pb2.SignatureHeader.FromString(signature.signature_header).creator
            identity = bundle.msps.validate(creator)
        except (DecodeError, IdentityError):
            continue
        if bundle.msps.verify(identity, signature.signature_header + signed.config_update, signature.signature):
            found.setdefault(identity.fingerprint, identity)
    return list(found.values())


def _check_compatible(present: ChannelBundle, proposed: ChannelBundle) -> None:
    """What an orderer refuses to change although everybody has signed (`Bundle.ValidateNew`)."""
    before, after = present.consensus_type, proposed.consensus_type
    if before != after:
        raise ConfigurationRefused(
            f"config update is not compatible: attempted to change consensus type from {before} to {after}"
        )


def _signed(channel: str, data: bytes, signer: SigningIdentity) -> bytes:
    header = common_pb2.Header.FromString(new_headers(signer, channel, common_pb2.CONFIG).serialized)
    payload = common_pb2.Payload(header=header, data=data).SerializeToString()
    return bytes(common_pb2.Envelope(payload=payload, signature=signer.sign(payload)).SerializeToString())


def _bad_request(info: str) -> NoReturn:
    raise BroadcastRefused(common_pb2.BAD_REQUEST, info)

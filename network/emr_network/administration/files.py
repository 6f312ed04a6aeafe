"""Changes of a channel as files that go from hospital to hospital, where nobody holds everybody's keys.

An organization's file says what others need to know of it; a proposal holds one configuration update; a signature is
over that update's bytes and good for nothing else. All are JSON with base64 inside, and none holds a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from fabric_protos.common import configtx_pb2
from fabric_protos.msp import msp_config_pb2
from google.protobuf.message import DecodeError
from hlf import certs
from hlf.admin.channel import PeerOrganization, split_address
from hlf.admin.msp import MspDefinition
from hlf.admin.validation import is_msp_id

FORMAT = 1


class FileInvalid(Exception):
    """A file that is not what it should be; the text names it and says why."""


@dataclass(frozen=True)
class OrganizationFile:
    organization: PeerOrganization

    def write(self, path: Path) -> None:
        content = {
            "mspId": self.organization.msp.msp_id,
            "msp": _text(self.organization.msp.to_config().SerializeToString(deterministic=True)),
            "anchorPeers": list(self.organization.anchor_peers),
        }
        _write(path, "organization", content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileInvalid, also for authorities that have expired."""
        content = _read(path, "organization")
        try:
            msp = MspDefinition.from_config(msp_config_pb2.MSPConfig.FromString(_octets(content["msp"])))
            anchors = tuple(str(one) for one in content["anchorPeers"])
            for anchor in anchors:
                split_address(anchor)
            roots = [certs.certificate_from_pem(pem) for pem in (*msp.root_certs, *msp.tls_root_certs)]
        except (KeyError, TypeError, ValueError, DecodeError) as error:
            raise FileInvalid(f"{path} holds no organization") from error
        if not is_msp_id(msp.msp_id) or msp.msp_id != content.get("mspId"):
            raise FileInvalid(f"{path}: the MSP id is malformed, or not that of the MSP")
        if not roots or not msp.root_certs:
            raise FileInvalid(f"{path}: {msp.msp_id} has no root certificates")
        require_valid(roots, f"{path}: a root certificate of {msp.msp_id}")
        return cls(PeerOrganization(msp, anchors))


@dataclass(frozen=True)
class Proposal:
    """`update` is a serialized `common.ConfigUpdate`; `what` says in words what it does, for whoever is to sign."""

    channel: str
    what: str
    update: bytes

    def write(self, path: Path) -> None:
        _write(path, "proposal", {"channel": self.channel, "what": self.what, "update": _text(self.update)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileInvalid."""
        content = _read(path, "proposal")
        try:
            update = _octets(content["update"])
            message = configtx_pb2.ConfigUpdate.FromString(update)
            proposal = cls(str(content["channel"]), str(content["what"]), update)
        except (KeyError, TypeError, ValueError, DecodeError) as error:
            raise FileInvalid(f"{path} holds no proposal") from error
        if message.channel_id != proposal.channel:
            raise FileInvalid(f"{path} says it is for {proposal.channel}, and its update is not")
        return proposal


@dataclass(frozen=True)
class SignatureFile:
    """`signature` is a serialized `common.ConfigSignature`."""

    signer: str
    signature: bytes

    def write(self, path: Path) -> None:
        _write(path, "signature", {"signer": self.signer, "signature": _text(self.signature)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises FileInvalid."""
        content = _read(path, "signature")
        try:
            return cls(str(content["signer"]), _octets(content["signature"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FileInvalid(f"{path} holds no signature") from error


def require_valid(certificates: list[x509.Certificate], what: str) -> None:
    """Raises FileInvalid for one that is not valid now."""
    now = datetime.now(UTC)
    for certificate in certificates:
        if certificate.not_valid_after_utc <= now:
            raise FileInvalid(f"{what} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.not_valid_before_utc > now:
            raise FileInvalid(f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")


def _write(path: Path, kind: str, content: dict[str, Any]) -> None:
    document = {"careledger": kind, "format": FORMAT, **content}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileInvalid(f"{path} cannot be read as a {kind} file") from error
    if not isinstance(content, dict) or (content.get("careledger"), content.get("format")) != (kind, FORMAT):
        raise FileInvalid(f"{path} is no {kind} file")
    return content


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error

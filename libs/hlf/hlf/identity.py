"""Who acts: a member of an MSP, named by a certificate."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from fabric_protos.msp import identities_pb2
from google.protobuf.message import DecodeError

from hlf import certs, crypto


class Creator(Protocol):
    """A member of an MSP in whose name something is proposed; whether it can sign here is another matter."""

    @property
    def msp_id(self) -> str: ...

    @property
    def serialized(self) -> bytes:
        """The member as Fabric writes it into headers: a serialized `msp.SerializedIdentity`."""


class Signer(Creator, Protocol):
    """Whoever can sign for a member of an MSP: a key in memory, or a client of a key store."""

    def sign(self, message: bytes) -> bytes:
        """A low-S DER signature over SHA-256 of `message`."""


@dataclass(frozen=True)
class Identity:
    """A member of an MSP. Equal when MSP and certificate text are."""

    msp_id: str
    certificate_pem: bytes = field(repr=False)

    @classmethod
    def from_serialized(cls, serialized: bytes) -> Self:
        """Reads a `msp.SerializedIdentity`. ValueError if it is malformed. The certificate is not looked at."""
        try:
            message = identities_pb2.SerializedIdentity.FromString(serialized)
        except DecodeError as error:
            raise ValueError("not a serialized identity") from error
        return cls(message.mspid, message.id_bytes)

    @cached_property
    def serialized(self) -> bytes:
        message = identities_pb2.SerializedIdentity(mspid=self.msp_id, id_bytes=self.certificate_pem)
        return bytes(message.SerializeToString())

    @cached_property
    def certificate(self) -> x509.Certificate:
        """ValueError if the certificate is malformed, as that of a stranger may be."""
        return certs.certificate_from_pem(self.certificate_pem)

    @property
    def common_name(self) -> str:
        """The enrolment id."""
        return certs.common_name_of(self.certificate)

    @property
    def attributes(self) -> dict[str, str]:
        return certs.attributes_of(self.certificate)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this member's key made `signature` over `message`. False as well when the certificate is no
        P-256 one. Says nothing about the chain, expiry or revocation of the certificate."""
        try:
            public_key = certs.public_key_of(self.certificate)
        except ValueError:
            return False
        return crypto.verify(public_key, signature, message)


@dataclass(frozen=True)
class SigningIdentity:
    """A member with its private key. ValueError if the key is not the certificate's."""

    msp_id: str
    certificate_pem: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        certified = certs.public_key_of(certs.certificate_from_pem(self.certificate_pem))
        if crypto.public_key_to_der(certified) != crypto.public_key_to_der(self.private_key.public_key()):
            raise ValueError("the private key does not belong to the certificate")

    @classmethod
    def from_pem(cls, msp_id: str, certificate_pem: bytes, private_key_pem: bytes) -> Self:
        return cls(msp_id, certificate_pem, crypto.private_key_from_pem(private_key_pem))

    @classmethod
    def from_msp_dir(cls, path: str | Path, msp_id: str) -> Self:
        """Reads Fabric's folder layout: the one file in `signcerts`, and the key in `keystore` that belongs to it.

        FileNotFoundError when there is none.
        """
        folder = Path(path)
        certificate_pem = _only_file(folder / "signcerts").read_bytes()
        for key_file in sorted((folder / "keystore").iterdir()):
            try:
                return cls.from_pem(msp_id, certificate_pem, key_file.read_bytes())
            except ValueError:
                continue
        raise FileNotFoundError(f"{folder / 'keystore'} holds no key of the certificate in signcerts")

    @cached_property
    def identity(self) -> Identity:
        return Identity(self.msp_id, self.certificate_pem)

    @property
    def serialized(self) -> bytes:
        return self.identity.serialized

    def sign(self, message: bytes) -> bytes:
        return crypto.sign(self.private_key, message)


def _only_file(folder: Path) -> Path:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    if len(files) != 1:
        raise FileNotFoundError(f"{folder} must hold exactly one file and holds {len(files)}")
    return files[0]

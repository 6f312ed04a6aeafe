"""Chaincode packages of type `ccaas`: where a peer finds a chaincode that runs as a service.

A package is a gzipped tar of `metadata.json` and `code.tar.gz`; its id is `label:` and the hex SHA-256 of its bytes
(`core/chaincode/persistence`). With every time set to zero the same contents make the same id on every machine.
"""

import gzip
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import Any

from hlf import crypto
from hlf.admin.errors import PackageInvalid

_LABEL = re.compile(r"[a-zA-Z0-9]+([.+\-_][a-zA-Z0-9]+)*")


@dataclass(frozen=True)
class ChaincodePackage:
    """A package's bytes and the label they carry."""

    label: str
    content: bytes

    @property
    def package_id(self) -> str:
        return f"{self.label}:{crypto.sha256(self.content).hex()}"


@dataclass(frozen=True)
class ServiceAddress:
    """Where the peer finds the chaincode process, and with which CA (PEM) it verifies it.

    `code_sha256` is hex, over whatever the organizations agreed to run: other code makes another package id.
    """

    address: str
    root_cert: bytes | None = None
    code_sha256: str = ""
    dial_timeout_seconds: int = 10


def package(label: str, service: ServiceAddress) -> ChaincodePackage:
    """ValueError if `label` is not one that peers accept."""
    if _LABEL.fullmatch(label) is None:
        raise ValueError(f"{label!r} is not a chaincode package label")
    connection: dict[str, Any] = {
        "address": service.address,
        "dial_timeout": f"{service.dial_timeout_seconds}s",
        "tls_required": service.root_cert is not None,
    }
    if service.root_cert is not None:
        connection["root_cert"] = service.root_cert.decode()
    code = {"connection.json": _json(connection)}
    if service.code_sha256:
        code["code.sha256"] = service.code_sha256.encode()
    metadata = _json({"type": "ccaas", "label": label})
    return ChaincodePackage(label, _tar_gz({"metadata.json": metadata, "code.tar.gz": _tar_gz(code)}))


def label_of(content: bytes) -> str:
    """The label of a package's bytes. PackageInvalid if they are none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            member = archive.extractfile("metadata.json")
            label = json.load(member)["label"] if member else None
    except (tarfile.TarError, OSError, KeyError, ValueError) as error:
        raise PackageInvalid("not a chaincode package") from error
    if not isinstance(label, str):
        raise PackageInvalid("the package's metadata names no label")
    return label


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar_gz(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)

"""Chaincode packages of type `ccaas`: where a peer finds a chaincode that runs as a service.

A package is a gzipped tar of `metadata.json` and `code.tar.gz`; its id is `label:` and the hex SHA-256 of its bytes
(`core/chaincode/persistence`). With every time set to zero the same contents make the same id on every machine.
"""

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hlf import crypto
from hlf.admin.errors import PackageInvalid

_LABEL = re.compile(r"[a-zA-Z0-9]+([.+\-_][a-zA-Z0-9]+)*")
_INSTALLABLE_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]*")
_METADATA, _CODE, _CONNECTION = "metadata.json", "code.tar.gz", "connection.json"
_LARGEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ChaincodePackage:
    """A package's bytes and the label they carry."""

    label: str
    content: bytes

    @property
    def package_id(self) -> str:
        return f"{self.label}:{crypto.sha256(self.content).hex()}"


@dataclass(frozen=True)
class PackageContents:
    """What a package holds: `kind` is `ccaas` for chaincode that runs as a service, `connection` then is the object in
    its `connection.json`, None where there is no such file."""

    label: str
    kind: str
    connection: Mapping[str, Any] | None


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
    code = {_CONNECTION: _json(connection)}
    if service.code_sha256:
        code["code.sha256"] = service.code_sha256.encode()
    return assemble(label, code)


def assemble(label: str, code: Mapping[str, bytes]) -> ChaincodePackage:
    """A package of type `ccaas` whose code is these files, by name."""
    metadata = _json({"type": "ccaas", "label": label})
    return ChaincodePackage(label, _tar_gz({_METADATA: metadata, _CODE: _tar_gz(code)}))


def label_of(content: bytes) -> str:
    """The label of a package's bytes. PackageInvalid if they are none."""
    return contents_of(content).label


def contents_of(content: bytes) -> PackageContents:
    """What a package's bytes hold. PackageInvalid if they are no package, or unpack to more than 64 MiB."""
    files = _files(content)
    for name, what in ((_CODE, "a code package inside the package"), (_METADATA, "any package metadata")):
        if name not in files:
            raise PackageInvalid(f"did not find {what}")
    metadata = _parsed(files[_METADATA], _METADATA)
    label = metadata.get("label")
    if not isinstance(label, str) or _INSTALLABLE_LABEL.fullmatch(label) is None:
        raise PackageInvalid(f"invalid label {label!r}")
    code = _files(files[_CODE])
    connection = _parsed(code[_CONNECTION], _CONNECTION) if _CONNECTION in code else None
    return PackageContents(label, str(metadata.get("type", "")), connection)


def _files(content: bytes) -> dict[str, bytes]:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            raw = packed.read(_LARGEST_BYTES + 1)
        if len(raw) > _LARGEST_BYTES:
            raise PackageInvalid("the package unpacks to more than 64 MiB")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            return {entry.name.removeprefix("./"): _file(archive, entry) for entry in archive if not entry.isdir()}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise PackageInvalid(f"error reading as gzip stream: {error}") from error


def _file(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(entry) if entry.isreg() else None
    if opened is None:
        raise PackageInvalid(f"tar entry {entry.name} is not a regular file")
    return opened.read()


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise PackageInvalid(f"could not unmarshal {name} as json") from error
    if not isinstance(value, dict):
        raise PackageInvalid(f"{name} is no JSON object")
    return value


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar_gz(files: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)

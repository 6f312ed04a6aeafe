"""The chaincode packages that a peer has installed, each a file of its own."""

import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from hlf import crypto
from hlf.admin.errors import PackageInvalid
from hlf.admin.packaging import contents_of

from hlf_devnet.bundle import milliseconds
from hlf_devnet.http2_stream import client_tls
from hlf_devnet.roster import write_file

DEFAULT_DIAL_SECONDS: Final = 3.0
_FILE_NAME: Final = re.compile(r"(?P<label>.+)\.(?P<hash>[0-9a-f]{64})\.tar\.gz")


class AlreadyInstalled(Exception):
    """The package is there; the text is Fabric's."""


class BuildFailed(PackageInvalid):
    """A well-formed package that no peer could run; the text is worded after Fabric."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"could not build chaincode: {problem}")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and how a peer dials a chaincode server."""

    address: str
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    dial_timeout_seconds: float = DEFAULT_DIAL_SECONDS


class PackageStore:
    """File names as a Fabric peer's: label, hash of the content, `.tar.gz`. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._installed: dict[str, Connection] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """PackageInvalid when an installed package cannot be read any more."""
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder)
        for path in sorted(folder.glob("*.tar.gz")):
            found = _FILE_NAME.fullmatch(path.name)
            content = path.read_bytes()
            if found is None or crypto.sha256(content).hex() != found["hash"]:
                raise PackageInvalid(f"{path}: the chaincode package was changed")
            store._installed[f"{found['label']}:{found['hash']}"] = _connection(contents_of(content).connection)
        return store

    def __contains__(self, package_id: str) -> bool:
        return package_id in self._installed

    @property
    def ids(self) -> list[str]:
        return sorted(self._installed)

    def connection(self, package_id: str) -> Connection:
        """KeyError for a package that is not installed."""
        return self._installed[package_id]

    def install(self, content: bytes) -> str:
        """The package's id. AlreadyInstalled, or PackageInvalid unless it is one that a peer can dial."""
        found = contents_of(content)
        if found.kind != "ccaas":
            raise BuildFailed(f"no builder takes a package of type {found.kind!r}")
        connection = _connection(found.connection)
        package_id = f"{found.label}:{crypto.sha256(content).hex()}"
        if package_id in self._installed:
            raise AlreadyInstalled(f"chaincode already successfully installed (package ID '{package_id}')")
        write_file(self._path(package_id), content)
        self._installed[package_id] = connection
        return package_id

    def content(self, package_id: str) -> bytes:
        """KeyError for a package that is not installed."""
        if package_id not in self._installed:
            raise KeyError(package_id)
        return self._path(package_id).read_bytes()

    def _path(self, package_id: str) -> Path:
        label, _, digest = package_id.rpartition(":")
        return self._folder / f"{label}.{digest}.tar.gz"


def _connection(section: Mapping[str, Any] | None) -> Connection:
    """Of a `connection.json` (`core/container/externalbuilder/instance.go`)."""
    if section is None:
        raise BuildFailed("the package has no connection.json")
    address = section.get("address")
    if not isinstance(address, str) or not address:
        raise BuildFailed("chaincode address not provided")
    try:
        tls = _tls(section) if section.get("tls_required") else None
        return Connection(address, tls, section.get("domain") or None, _seconds(section.get("dial_timeout")))
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise BuildFailed(f"connection.json: {error}") from error


def _tls(section: Mapping[str, Any]) -> ssl.SSLContext:
    root = section.get("root_cert")
    if not root:
        raise ValueError("chaincode tls root cert not provided")
    context = client_tls(root)
    if section.get("client_auth_required"):
        key, certificate = section.get("client_key"), section.get("client_cert")
        if not key or not certificate:
            raise ValueError("chaincode tls key or cert not provided")
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # only its owner may read it
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _seconds(duration: Any) -> float:
    """A Go duration as text, or nanoseconds; 0 means the default."""
    if not duration:
        return DEFAULT_DIAL_SECONDS
    return float(duration) / 1e9 if isinstance(duration, int | float) else milliseconds(str(duration)) / 1e3

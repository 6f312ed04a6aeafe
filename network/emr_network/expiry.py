"""Certificates of a network that will not be valid much longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hlf import certs

from emr_network.home import Home

SOON = timedelta(days=30)


@dataclass(frozen=True)
class Expiring:
    """`file` is relative to EMR_HOME; `is_over` when it is invalid already."""

    file: str
    name: str
    expires: datetime
    is_over: bool


def expiring(home: Home, *, now: datetime | None = None, within: timedelta = SOON) -> list[Expiring]:
    """Every certificate in EMR_HOME that expires within that time, the first to do so first."""
    present = now or datetime.now(UTC)
    found = []
    for file in _certificate_files(home):
        certificate = certs.certificate_from_pem(file.read_bytes())
        expires = certificate.not_valid_after_utc
        if expires <= present + within:
            name = certs.common_name_of(certificate)
            found.append(Expiring(str(file.relative_to(home.root)), name, expires, expires <= present))
    return sorted(found, key=lambda one: (one.expires, one.file))


def _certificate_files(home: Home) -> Iterator[Path]:
    """One file a certificate: MSP folders repeat their organization's authorities."""
    for file in sorted(home.organizations.rglob("*")):
        is_own = file.parent.name in {"signcerts", "tls", "ca", "tlsca"} and file.suffix in {".pem", ".crt"}
        if is_own and file.name != "ca.crt":
            yield file
    yield from sorted(home.secrets.glob("*/registrar/signcerts/*.pem"))

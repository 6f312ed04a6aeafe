"""The official CA of a hospital: what `fabric-ca-server` is told. It signs with the hospital's own authority."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from emr_network.devnet import REGISTRAR, registrar_secret
from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import Ports
from emr_network.topology import Organization

CONFIGURATION = "fabric-ca-server-config.yaml"
_YEAR = "8760h"


def ca_folder(home: Home, organization: Organization) -> Path:
    """The server's home: `fabric-ca-server start -H` this."""
    return home.fabric / f"ca-{organization.name}"


def write_fabric_ca_config(home: Home, organization: Organization, ports: Ports) -> Path:
    """It holds the registrar's secret: the file is for its owner alone."""
    content = yaml.safe_dump(_settings(home, organization, ports), sort_keys=False)
    return home.write_secret(ca_folder(home, organization) / CONFIGURATION, content)


def _settings(home: Home, organization: Organization, ports: Ports) -> dict[str, Any]:
    folder = peer_organization(home, organization)
    name = f"ca-{organization.name}"
    signing = {"usage": ["digital signature"], "expiry": _YEAR}
    tls = {"usage": ["signing", "key encipherment", "server auth", "client auth", "key agreement"], "expiry": _YEAR}
    return {
        "address": ports.listen_host(name),
        "port": ports[name],
        "tls": {
            "enabled": True,
            "certfile": str(folder.ca_tls / "server.crt"),
            "keyfile": str(folder.ca_tls / "server.key"),
        },
        "ca": {
            "name": organization.ca_name,
            "certfile": str(folder.ca_certificate),
            "keyfile": str(folder.ca_key),
        },
        "crl": {"expiry": "720h"},
        "registry": {
            "maxenrollments": -1,
            "identities": [_registrar(registrar_secret(home, organization).read_text(encoding="utf-8").strip())],
        },
        "db": {"type": "sqlite3", "datasource": "fabric-ca-server.db"},
        "affiliations": {},
        "signing": {"default": signing, "profiles": {"tls": tls}},
        "operations": {"listenAddress": ports.address(f"{name}-operations")},
        "metrics": {"provider": "disabled"},
    }


def _registrar(secret: str) -> dict[str, Any]:
    return {
        "name": REGISTRAR,
        "pass": secret,
        "type": "client",
        "affiliation": "",
        "attrs": {
            "hf.Registrar.Roles": "*",
            "hf.Registrar.DelegateRoles": "*",
            "hf.Registrar.Attributes": "*",
            "hf.Revoker": True,
            "hf.GenCRL": True,
        },
    }

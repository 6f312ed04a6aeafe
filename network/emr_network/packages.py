"""The chaincode packages of the hospitals: each names the address of that hospital's own chaincode process, and the
digest of the code that the hospitals have agreed to run.

A package is made once and kept: its id, which the chaincode process shows to the peer, is a digest of its bytes.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from hlf.admin.packaging import ChaincodePackage, ServiceAddress, label_of, package

from emr_network.home import Home
from emr_network.topology import Chaincode, Organization

CODE = "emr_chaincode"


def chaincode_package(home: Home, organization: Organization, chaincode: Chaincode, address: str) -> ChaincodePackage:
    """The package of a hospital for this version of the chaincode, which answers at `address`, `host:port`."""
    label = f"{chaincode.name}_{chaincode.version}"
    kept = home.packages / f"{organization.name}-{label}.tar.gz"
    if not kept.exists():
        made = package(label, ServiceAddress(address, code_sha256=code_sha256()))
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}.partial")
        partial.write_bytes(made.content)
        partial.replace(kept)
    content = kept.read_bytes()
    return ChaincodePackage(label_of(content), content)


def code_sha256() -> str:
    """SHA-256 over names and contents of the contract's modules, hex."""
    found = importlib.util.find_spec(CODE)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"the package {CODE} is not installed")
    folder = Path(found.origin).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()

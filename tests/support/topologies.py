"""Topologies of other sizes than the repository's: files for `System.prepare`."""

from __future__ import annotations

from pathlib import Path

import yaml
from emr_network.home import TOPOLOGY
from emr_network.topology import load


def fabric_topology(root: Path, *, hospitals: int = 2, orderers: int = 1, peers: int = 1) -> Path:
    """A network of official programs; `peers` are those of each hospital. The file stands in `root`."""
    content = load(TOPOLOGY).model_dump(mode="json", by_alias=True)
    content["ledger"] = "fabric"
    content["orderer"]["nodes"] = orderers
    for organization in content["organizations"]:
        organization["peers"] = peers
    first = content["organizations"][0]
    for number in range(2, hospitals):
        letter = "abcdef"[number]
        ports = {name: port + 1000 * number for name, port in first["ports"].items()}
        named = {"name": letter, "mspId": f"Hospital{letter.upper()}", "title": f"Hospital {letter.upper()}"}
        content["organizations"].append({**first, **named, "domain": f"{letter}.care.example", "ports": ports})
    root.mkdir(parents=True, exist_ok=True)
    path = root / "wanted.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path

"""The development CA and, where its program is found (PATH or FABRIC_BIN), official fabric-ca."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, new_private_key, private_key_to_pem
from support.ports import free_port

Kind = Literal["devnet", "official"]
REGISTRAR, SECRET = "registrar", "the-registrars-secret"


@dataclass(frozen=True)
class Server:
    kind: str
    url: str
    tls_ca_pem: bytes


@contextmanager
def ca_server(kind: Kind, folder: Path) -> Iterator[Server]:
    """A CA of its own. Skips the test when there is no official program."""
    port = free_port()
    command = {"devnet": devnet_command, "official": official_command}[kind](folder, port)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            wait_for_port(port, process, folder / "log")
            yield Server(kind, f"https://localhost:{port}", (folder / "tls-ca.pem").read_bytes())
        finally:
            process.terminate()
            process.wait(10)


def devnet_command(folder: Path, port: int) -> list[str]:
    authority = CertificateAuthority.create("ca.a.care.example", "a.care.example")
    tls = CertificateAuthority.create("tlsca.a.care.example", "a.care.example")
    key = new_private_key()
    certificate = tls.issue("localhost", key.public_key(), purpose=Purpose.TLS, sans=["localhost", "127.0.0.1"])
    files = {
        "ca.pem": authority.certificate_pem,
        "ca.key": authority.key_pem,
        "tls-ca.pem": tls.certificate_pem,
        "tls.pem": certificate_to_pem(certificate),
        "tls.key": private_key_to_pem(key),
        "secret": SECRET.encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    settings = {
        "name": "ca-a", "msp_id": "HospitalA", "listen": f"127.0.0.1:{port}", "ca_cert": "ca.pem", "ca_key": "ca.key",
        "tls_cert": "tls.pem", "tls_key": "tls.key", "registrar": {"id": REGISTRAR, "secret_file": "secret"},
        "crl_file": "crl.pem",
    }  # fmt: skip
    (folder / "data").mkdir()
    (folder / "ca.yaml").write_text(yaml.safe_dump({"data_dir": "data", "authorities": [settings]}))
    return [sys.executable, "-m", "hlf_devnet.ca", str(folder / "ca.yaml")]


def official_command(folder: Path, port: int) -> list[str]:
    path = os.pathsep.join([os.environ.get("FABRIC_BIN", ""), os.environ.get("PATH", "")])
    program = shutil.which("fabric-ca-server", path=path)
    if program is None:
        pytest.skip("fabric-ca-server is not on PATH or FABRIC_BIN")
    tls, key = CertificateAuthority.create("tls", "tls"), new_private_key()
    certificate = tls.issue("localhost", key.public_key(), purpose=Purpose.TLS, sans=["localhost", "127.0.0.1"])
    (folder / "tls-ca.pem").write_bytes(tls.certificate_pem)
    (folder / "tls.pem").write_bytes(certificate_to_pem(certificate))
    (folder / "tls.key").write_bytes(private_key_to_pem(key))
    return [
        program, "start", "-H", str(folder), "-b", f"{REGISTRAR}:{SECRET}", "--address", "127.0.0.1",
        "--port", str(port), "--tls.enabled", "--tls.certfile", str(folder / "tls.pem"),
        "--tls.keyfile", str(folder / "tls.key"), "--operations.listenaddress", f"127.0.0.1:{free_port()}",
    ]  # fmt: skip


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the CA did not start: {log.read_text()[-2000:]}")

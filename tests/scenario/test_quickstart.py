"""The blocks of docs/api/quickstart.md, as an integrator would paste them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.stack import Stack

PAGE = Path(__file__).parents[2] / "docs" / "api" / "quickstart.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)


async def test_the_quick_start_works_as_it_stands(stack: Stack, tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "EMR_HOME": str(stack.home.root),
    }
    process = await asyncio.create_subprocess_exec(
        "bash",
        cwd=tmp_path,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate("\n".join(blocks).encode())
    assert process.returncode == 0, (said.decode()[-2000:], complained.decode()[-2000:])
    assert '"state":"committed"' in said.decode()

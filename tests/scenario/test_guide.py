"""What `emr up` prints can be pasted into a shell, line by line, and both workflows happen."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest
from emr_deploy.guide import guide, variable
from support.stack import Stack

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)

LEARNED = {"emrId": "EMR", "patientId": "PATIENT_ID", "receipt": "RECEIPT"}


async def _shell(line: str, environment: dict[str, str]) -> dict[str, object]:
    process = await asyncio.create_subprocess_shell(line, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(said)
    return answer


async def test_every_curl_line_does_what_it_says(stack: Stack) -> None:
    shown = await guide(stack.system)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    for organization, actors in shown.tokens.items():
        environment |= {variable(actor, organization): token for actor, token in actors.items()}
    for what, line in shown.curl:
        if what.endswith("a receipt"):
            await _until_snapshot(stack, line, environment)
        answer = await _shell(line, environment)
        expected = "ACCESS_NOT_GRANTED" if what.endswith("403") else None
        assert answer.get("code") == expected, what
        environment |= {name: str(answer[member]) for member, name in LEARNED.items() if member in answer}


async def _until_snapshot(stack: Stack, line: str, environment: dict[str, str]) -> None:
    """The sharer answers to approvals by itself."""

    async def is_there() -> bool:
        return (await _shell(line, environment)).get("code") is None

    await stack.until(is_there, "the sharer has shared")


def test_tokens_and_addresses_are_in_its_json() -> None:
    from emr_deploy.guide import Guide

    shown = Guide({"a": {"records": "http://x"}}, {"a": {"admin": "t"}}, [("does", "curl")]).as_dict()
    assert shown == {
        "urls": {"a": {"records": "http://x"}},
        "tokens": {"a": {"admin": "t"}},
        "steps": [{"step": "does", "curl": "curl"}],
    }

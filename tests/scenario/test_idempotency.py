"""One intention, however often it is sent: over two instances, while one of them and the ledger are killed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from support.sharing_steps import Cast, Steps
from support.stack import Stack

AT_ONCE = 50
NO_ANSWER_YET = (202, 409, 429, 503)


@pytest_asyncio.fixture(loop_scope="session")
async def instances(stack: Stack) -> AsyncIterator[list[str]]:
    """URLs of two instances of A's records service."""
    await stack.system.scale("records", "a", 2)
    members = [one for one in stack.system.processes if (one.service, one.organization) == ("records", "a")]
    yield [f"http://127.0.0.1:{one.port}" for one in members]
    await stack.system.scale("records", "a", 1)


async def test_fifty_at_once_over_two_instances_have_one_effect_and_one_answer(
    stack: Stack, cast: Cast, instances: list[str]
) -> None:
    steps = await Steps.begin(stack, cast, notes=1)
    path, key = f"/v1/emrs/{steps.patient.emr_id}/notes", secrets.token_hex(8)
    token = await stack.token(cast.physician.subject, "a")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}

    async with httpx.AsyncClient(timeout=40, trust_env=False, headers=headers) as http:

        async def post(url: str, text: str = "Seen once.") -> httpx.Response:
            """Sent again, as the API says, until it is answered."""
            while True:
                try:
                    answer = await http.post(url + path, json={"text": text})
                    if answer.status_code not in NO_ANSWER_YET:
                        return answer
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.2)

        sent = [asyncio.create_task(post(url)) for url in instances * (AT_ONCE // 2)]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        await stack.kill(stack.ledger_process)
        await stack.kill("records-a")
        async with asyncio.timeout(120):
            answers = await asyncio.gather(*sent)
        other = await post(instances[1], "Something else.")
    assert {answer.status_code for answer in answers} == {201}, answers[0].text
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    await stack.ready(*(process.name for process in stack.system.processes))
    assert (await steps.read())["version"] == answers[0].json()["version"] == 2

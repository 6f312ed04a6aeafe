"""Server-sent events of sharings and disclosures: who hears what, in which order, and what a broken stream misses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import httpx
from emr_consent.events import MOST_OF_A_CALLER
from emr_consent.schemas import SharingOut
from pydantic.alias_generators import to_camel
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

WAIT_SECONDS = 30.0
SHARING_MEMBERS = {to_camel(name) for name in SharingOut.model_fields}
Event = dict[str, Any]


@asynccontextmanager
async def listening(stack: Stack, actor: Actor, after: int | None = None) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a stream as `{event, id, data}`; `id` is None but for the last of a block."""
    headers = {"Authorization": f"Bearer {await stack.token(actor.subject, actor.organization)}"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    url = f"{stack.url('consent', actor.organization)}/v1/events"
    timeout = httpx.Timeout(WAIT_SECONDS)
    async with (
        httpx.AsyncClient(timeout=timeout, trust_env=False) as http,
        http.stream("GET", url, headers=headers) as one,
    ):
        assert one.status_code == 200
        assert one.headers["content-type"].startswith("text/event-stream")
        async with aclosing(_events(one)) as events:
            assert (await anext(events))["id"] is not None  # where it begins
            yield events


async def _events(response: httpx.Response) -> AsyncGenerator[Event, None]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields or "retry" in fields:
            number = fields.get("id")
            yield {
                "event": fields.get("event"),
                "id": None if number is None else int(number),
                "data": json.loads(fields.get("data", "null")),
            }
            fields = {}


async def until(events: AsyncIterator[Event], condition: Callable[[Event], bool]) -> Event:
    async with asyncio.timeout(WAIT_SECONDS):
        return await anext(event async for event in events if condition(event))


def of(steps: Steps, state: str) -> Callable[[Event], bool]:
    return lambda event: (
        event["event"] == "sharing"
        and (event["data"]["emrId"], event["data"]["state"])
        == (
            steps.patient.emr_id,
            state,
        )
    )


async def test_both_hospitals_and_the_patient_hear_of_a_sharing_as_it_goes_on(steps: Steps) -> None:
    async with (
        listening(steps.stack, steps.cast.healthcenter) as owner,
        listening(steps.stack, steps.cast.other_physician) as recipient,
        listening(steps.stack, steps.patient) as patient,
    ):
        (await steps.request()).required()
        for events in (owner, recipient, patient):
            assert set((await until(events, of(steps, "requested")))["data"]) == SHARING_MEMBERS
        await steps.share()
        receipt = await steps.receipt()
        for events in (owner, recipient, patient):
            await until(events, of(steps, "shared"))
            read = await until(events, lambda event: event["event"] == "disclosure")
            assert receipt.endswith(read["data"]["transactionId"])
        (await steps.remove()).required()
        for events in (owner, recipient, patient):
            await until(events, of(steps, "ended"))


async def test_a_patient_hears_of_no_other_patient(steps: Steps, stack: Stack, cast: Cast) -> None:
    stranger = await Steps.begin(stack, cast)
    async with listening(stack, steps.patient) as patient:
        (await stranger.approve_as_patient()).required()
        (await steps.approve_as_patient()).required()
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await anext(patient))["data"]["emrId"] == steps.patient.emr_id


async def test_a_stream_that_broke_goes_on_where_it_was(steps: Steps) -> None:
    async with listening(steps.stack, steps.patient) as patient:
        (await steps.approve_as_patient()).required()
        seen = (await until(patient, of(steps, "awaiting_owner")))["id"]
    (await steps.approve_as_owner()).required()
    await steps.until_shared()
    await steps.stack.wait_for_rows("a")
    async with listening(steps.stack, steps.patient, after=seen) as patient:
        async with asyncio.timeout(WAIT_SECONDS):
            assert of(steps, "shared")(await anext(patient))


async def test_one_listener_cannot_take_the_streams_of_others(steps: Steps, stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {await stack.token(steps.patient.subject, steps.patient.organization)}"}
    async with AsyncExitStack() as streams:
        for _ in range(MOST_OF_A_CALLER):
            await streams.enter_async_context(listening(stack, steps.patient))
        async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as http:
            refused = await http.get(f"{stack.url('consent', 'a')}/v1/events", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_REQUESTS")
        assert int(refused.headers["retry-after"]) > 0
        async with listening(stack, steps.cast.healthcenter):
            pass


async def test_a_stream_ends_with_the_listeners_enrolment(stack: Stack) -> None:
    leaver, admin = await stack.staff("a", "physician"), await stack.staff("a", "admin")
    async with listening(stack, leaver) as events:
        (await stack.call(admin, "registration", "DELETE", f"/staff/{leaver.enrolment_id}")).required()
        async with asyncio.timeout(WAIT_SECONDS):
            assert [event async for event in events if event["event"] is None] == []

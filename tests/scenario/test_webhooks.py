"""Webhooks of the running system: who may set them, and what a hospital's own system is told."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

REFUSED_URLS = {
    "not https": "http://his.example/",
    "a file": "file:///etc/passwd",
    "a user": "https://admin:secret@his.example/",
    "a fragment": "https://his.example/#part",
    "no host": "https:///events",
    "not a URL": "https://[::1/",
}
REFUSED_ADDRESSES = [
    "https://127.0.0.2/",
    "https://10.0.0.1/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://169.254.169.254/",
    "https://[::ffff:192.168.0.1]/",
]


def path() -> str:
    return f"/webhooks/his-{secrets.token_hex(4)}"


@pytest.fixture(name="admin")
async def _admin(stack: Stack) -> Actor:
    return await stack.staff("a", "admin")


async def test_a_hospitals_own_system_is_told_of_a_sharing_from_request_to_ending(steps: Steps, admin: Actor) -> None:
    stack, where = steps.stack, path()
    made = await stack.call(admin, "consent", "PUT", where, {"url": stack.his.url})
    assert (made.status, made.body["state"], made.body["kinds"]) == (201, "active", ["disclosure", "sharing"])
    try:
        (await steps.request()).required()
        await steps.share()
        receipt = await steps.receipt()
        (await steps.remove()).required()

        def told() -> list[tuple[str, Any]]:
            events = [one.event for one in stack.his.posted]
            return [
                (event["type"], event["data"].get("state", event["data"]["transactionId"]))
                for event in events
                if event["data"]["emrId"] == steps.patient.emr_id
            ]

        async def is_complete() -> bool:
            return ("sharing", "ended") in told()

        await stack.until(is_complete, "the webhook is told of the ending")
        assert ("disclosure", receipt.partition(".")[2]) in told()
        assert all(one.is_signed_by(made.body["secret"]) for one in stack.his.posted if one.event)
        stands = (await stack.call(admin, "consent", "GET", where)).required()
        assert "secret" not in stands
        assert (stands["state"], stands["lastFailure"]) == ("active", None)
    finally:
        assert (await stack.call(admin, "consent", "DELETE", where)).status == 200


async def test_a_secret_is_told_once_and_replaced_on_demand(stack: Stack, admin: Actor) -> None:
    where, body = path(), {"url": "https://his.example/events", "kinds": ["disclosure"]}
    first = (await stack.call(admin, "consent", "PUT", where, body)).required()
    again = await stack.call(admin, "consent", "PUT", where, body)
    assert (again.status, again.body["secret"]) == (200, None)
    rotated = (await stack.call(admin, "consent", "PUT", where, {**body, "rotateSecret": True})).required()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != first["secret"]
    listed = (await stack.call(admin, "consent", "GET", "/webhooks")).required()["webhooks"]
    assert f"/webhooks/{first['webhookId']}" in {f"/webhooks/{one['webhookId']}" for one in listed}
    assert (await stack.call(admin, "consent", "DELETE", where)).status == 200
    for method in ("GET", "DELETE"):
        gone = await stack.call(admin, "consent", method, where)
        assert (gone.status, gone.code) == (404, "WEBHOOK_NOT_FOUND")


@pytest.mark.parametrize("kind", REFUSED_URLS)
async def test_a_webhook_is_posted_to_by_https_alone(stack: Stack, admin: Actor, kind: str) -> None:
    refused = await stack.call(admin, "consent", "PUT", path(), {"url": REFUSED_URLS[kind]})
    assert (refused.status, refused.code) == (422, "VALIDATION_FAILED")
    assert REFUSED_URLS[kind] not in str(refused.body)


@pytest.mark.parametrize("url", REFUSED_ADDRESSES)
async def test_a_webhook_with_an_address_of_the_inside_is_refused(stack: Stack, admin: Actor, url: str) -> None:
    refused = await stack.call(admin, "consent", "PUT", path(), {"url": url})
    assert (refused.status, refused.code) == (422, "WEBHOOK_ADDRESS_REFUSED")


@pytest.mark.parametrize("role", ["healthcenter", "physician", "patient"])
async def test_only_administrators_see_or_set_webhooks(stack: Stack, cast: Cast, steps: Steps, role: str) -> None:
    actor = {"healthcenter": cast.healthcenter, "physician": cast.physician, "patient": steps.patient}[role]
    for method, where, body in (
        ("PUT", path(), {"url": "https://his.example/"}),
        ("GET", "/webhooks", None),
        ("GET", path(), None),
        ("DELETE", path(), None),
    ):
        assert (await stack.call(actor, "consent", method, where, body)).code == "ROLE_NOT_ALLOWED"

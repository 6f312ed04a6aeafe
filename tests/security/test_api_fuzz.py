"""schemathesis on every service: no 5xx, nothing against the description, no error that repeats what was sent.

`make api-fuzz` sends API_FUZZ_EXAMPLES (200) requests to each operation, other ones each time: API_FUZZ_SEED, which it
prints, repeats them. `make test` always sends the same few.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from support.api_fuzz import Caller, fuzz
from support.sharing_steps import Cast
from support.stack import Actor, Stack

FEW = 4
EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", FEW))
SEED = int(os.environ.get("API_FUZZ_SEED", random.randrange(10**6) if EXAMPLES > FEW else 1))
EVERYBODY = frozenset({"admin", "healthcenter", "physician", "patient", "stranger"})
BUT = {
    "PUT /v1/organizations/{msp}": frozenset({"admin"}),  # would replace the keys that other tests share by
    "POST /v1/rebuilds": frozenset({"admin"}),
    "POST /v1/verifications": frozenset({"admin"}),
    "PUT /v1/webhooks/{webhook_id}": frozenset({"admin"}),  # would be posted to
    "GET /v1/events": EVERYBODY,  # an answer without an end
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("service", ["registration", "records", "consent", "indexer"])
async def test_generated_requests_find_nothing_wrong_with(stack: Stack, cast: Cast, service: str) -> None:
    patient = await stack.patient(cast.healthcenter)
    path = {"emr": patient.emr_id, "msp": "HospitalB", "version": "1"}
    admin = Actor("a", "admin", "admin", "admin")
    people = [admin, cast.healthcenter, cast.physician, patient, Actor("a", "stranger-f", "stranger", "")]
    callers = [Caller(one.role, await stack.token(one.subject, "a"), path) for one in people]
    url = stack.url(service, "a")
    sent = await asyncio.to_thread(fuzz, url, callers, examples=EXAMPLES, but=BUT, chance=SEED)
    print(f"{service}: {sent} requests, seed {SEED}")
    assert sent >= EXAMPLES * 3
    log = stack.log(f"{service}-a").read_text()
    assert "request_failed" not in log

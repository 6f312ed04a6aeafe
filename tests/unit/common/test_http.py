from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import pytest
import structlog
from emr_common import workload
from emr_common.bodies import clinical_body
from emr_common.boundary import PREFIX
from emr_common.http import create_app
from emr_common.problems import OutcomePending, Problem
from emr_common.readiness import Readiness
from emr_common.routing import JsonRoute
from emr_common.settings import HttpSettings, Settings
from emr_model.ledger.codes import Code
from fastapi import APIRouter, Body, FastAPI, Query, Request
from prometheus_client import REGISTRY
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

CANARY = "canary-7c1d"
LIMIT = 2000


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    name: str = ""


class Clinical(BaseModel):
    model_config = ConfigDict(extra="forbid")

    patient: dict[str, Any]


router = APIRouter(prefix=PREFIX, route_class=JsonRoute)


@router.post("/items/{item}")
async def post_item(item: str, body: Item, limit: Annotated[int, Query(le=5)] = 1) -> dict[str, int]:
    return {"count": body.count * limit}


@router.patch("/items/{item}")
async def patch_item(item: str) -> None: ...


@router.post("/clinical")
async def post_clinical(request: Request) -> dict[str, str]:
    body = await clinical_body(request, Clinical)
    return {"type": type(body.patient["value"]).__name__, "value": str(body.patient["value"])}


@router.post("/large")
async def post_large(body: Annotated[dict[str, str], Body()]) -> int:
    return len(body["text"])


@router.get("/fails/{how}")
async def fail(how: str) -> None:
    raise FAILURES[how]()


FAILURES: dict[str, Callable[[], Exception]] = {
    "unexpectedly": lambda: RuntimeError(CANARY),
    "with a problem": lambda: Problem(Code.VERSION_CONFLICT, members={"version": 4}),
    "with a hospital missing": lambda: Problem(Code.HOSPITAL_UNAVAILABLE, members={"hospital": "HospitalB"}),
    "without an outcome": lambda: OutcomePending("a" * 64),
    "in the database": lambda: DBAPIError(CANARY, {}, OSError(CANARY)),
    "to connect": lambda: ConnectionRefusedError(CANARY),
}


@dataclass
class Services:
    checks: dict[str, Callable[[], Any]] = field(default_factory=dict)
    is_open: bool = True

    @property
    def readiness(self) -> Readiness:
        return Readiness(self.checks)


def application(services: Services) -> FastAPI:
    @asynccontextmanager
    async def bootstrap() -> AsyncIterator[Services]:
        yield services
        services.is_open = False

    return create_app(
        title="test",
        description="test",
        settings=Settings(org_msp_id="HospitalA", http=HttpSettings(max_body_bytes=LIMIT)),
        bootstrap=bootstrap,
        routers=[router],
        body_limits={"/v1/large": 10 * LIMIT},
    )


@asynccontextmanager
async def running(services: Services | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = application(services or Services())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test"
        ) as client,
    ):
        yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running() as connected:
        yield connected


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail", "requestId"} <= document.keys()
    assert document["status"] == answer.status_code == Code[document["code"]].status
    assert document["requestId"] == answer.headers["x-request-id"]
    assert CANARY not in answer.text
    return document


JSON = {"content-type": "application/json"}
ITEM, CLINICAL = "/v1/items/1", "/v1/clinical"
FORM = {"content-type": "application/x-www-form-urlencoded"}
XML = {"content-type": "application/fhir+xml"}
PATCH = {"content-type": "application/merge-patch+json"}
GZIP = {**JSON, "content-encoding": "gzip"}
LONG = b'{"count":1,"name":"%b' + b"x" * LIMIT + b'"}'
HOSTILE: dict[str, tuple[str, str, bytes, Mapping[str, str], Code]] = {
    "a value of another type": ("POST", ITEM, b'{"count":"%b"}', JSON, Code.VALIDATION_FAILED),
    "an unknown member": ("POST", ITEM, b'{"count":1,"%b":"%b"}', JSON, Code.VALIDATION_FAILED),
    "a missing member": ("POST", ITEM, b'{"name":"%b"}', JSON, Code.VALIDATION_FAILED),
    "no object": ("POST", ITEM, b'["%b"]', JSON, Code.VALIDATION_FAILED),
    "a wrong query": ("POST", f"{ITEM}?limit={CANARY}", b'{"count":1}', JSON, Code.VALIDATION_FAILED),
    "no JSON": ("POST", ITEM, b'{"count": %b', JSON, Code.MALFORMED_REQUEST),
    "bytes that are no text": ("POST", ITEM, b'{"count": "\xff\xfe%b"}', JSON, Code.MALFORMED_REQUEST),
    "JSON nested without end": ("POST", ITEM, b"[" * 1900, JSON, Code.MALFORMED_REQUEST),
    "a key twice": ("POST", ITEM, b'{"count":1,"count":2,"name":"%b"}', JSON, Code.MALFORMED_REQUEST),
    "NaN": ("POST", ITEM, b'{"count":NaN,"name":"%b"}', JSON, Code.MALFORMED_REQUEST),
    "an empty body": ("POST", ITEM, b"", JSON, Code.VALIDATION_FAILED),
    "a form": ("POST", ITEM, b"a=%b", FORM, Code.UNSUPPORTED_MEDIA_TYPE),
    "a body of no type": ("POST", ITEM, b"%b", {}, Code.UNSUPPORTED_MEDIA_TYPE),
    "an unknown path": ("GET", f"/v1/{CANARY}", b"", {}, Code.NOT_FOUND),
    "another method": ("DELETE", ITEM, b"", {}, Code.METHOD_NOT_ALLOWED),
    "a compressed body": ("POST", ITEM, b"\x1f\x8b", GZIP, Code.UNSUPPORTED_MEDIA_TYPE),
    "a body over its limit": ("POST", ITEM, LONG, JSON, Code.CONTENT_TOO_LARGE),
    "clinical JSON with a key twice": ("POST", CLINICAL, b'{"patient":{"%b":1,"%b":2}}', JSON, Code.MALFORMED_REQUEST),
    "clinical JSON with NaN": ("POST", CLINICAL, b'{"patient":{"%b":NaN}}', JSON, Code.MALFORMED_REQUEST),
    "clinical JSON that is a list": ("POST", CLINICAL, b'["%b"]', JSON, Code.MALFORMED_REQUEST),
    "an unknown member beside it": ("POST", CLINICAL, b'{"patient":{},"%b":1}', JSON, Code.VALIDATION_FAILED),
    "a patch": ("POST", ITEM, b'{"count":1}', PATCH, Code.UNSUPPORTED_MEDIA_TYPE),
    "clinical XML": ("POST", CLINICAL, b"<Patient/>", XML, Code.UNSUPPORTED_MEDIA_TYPE),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_input_is_a_problem_that_does_not_repeat_it(client: httpx.AsyncClient, name: str) -> None:
    method, path, body, headers, code = HOSTILE[name]
    content = body.replace(b"%b", CANARY.encode())
    with capture_logs() as logs:
        answer = await client.request(method, path, content=content, headers=headers)
    assert problem_of(answer)["code"] == code.name
    assert CANARY not in json.dumps(logs, default=repr)


async def test_a_chunked_body_is_counted_as_it_comes(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "DISCARD_BYTES", 3000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 500
            yield b"x" * 500

    answer = await client.post("/v1/items/1", content=endless(), headers=JSON)
    assert problem_of(answer)["code"] == "CONTENT_TOO_LARGE"
    assert sent <= LIMIT + 3000 + 1000


async def test_a_path_with_a_slash_behind_it_is_another_and_leads_nowhere(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{CLINICAL}/", content=b"{}", headers={**JSON, "host": CANARY})
    assert problem_of(answer)["code"] == "NOT_FOUND"


async def test_another_method_is_told_all_that_the_path_knows(client: httpx.AsyncClient) -> None:
    answer = await client.put(ITEM, content=b"{}", headers=JSON)
    assert (problem_of(answer)["code"], answer.headers["allow"]) == ("METHOD_NOT_ALLOWED", "PATCH, POST")


async def test_a_route_may_have_a_limit_of_its_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/large", json={"text": "x" * 5 * LIMIT})
    assert answer.json() == 5 * LIMIT
    answer = await client.post("/v1/large", json={"text": "x" * 11 * LIMIT})
    assert problem_of(answer)["code"] == "CONTENT_TOO_LARGE"


async def test_a_body_within_its_limit_is_read(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/items/1?limit=2", json={"count": 3})).json() == {"count": 6}


async def test_too_many_at_once_are_turned_away_and_health_still_answers(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "MOST_IN_PROGRESS", 3)
    waiting = [asyncio.create_task(client.post(ITEM, content=slowly(), headers=JSON)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert problem_of(await client.post(ITEM, json={"count": 1}))["code"] == "OVERLOADED"
    assert (await client.get("/healthz")).status_code == 200
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert (await client.post(ITEM, json={"count": 1})).status_code == 200


async def test_a_body_that_comes_too_slowly_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "BODY_SECONDS", 0.1)
    answer = await client.post(ITEM, content=slowly(), headers=JSON)
    assert problem_of(answer)["code"] == "REQUEST_TIMEOUT"


async def slowly() -> AsyncIterator[bytes]:
    yield b'{"count":'
    await asyncio.sleep(0.3)
    yield b"1}"


async def test_clinical_decimals_keep_their_digits(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/clinical", content=b'{"patient":{"value":1.0}}', headers=JSON)
    assert answer.json() == {"type": "Decimal", "value": "1.0"}


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("unexpectedly", Code.INTERNAL_ERROR),
        ("with a problem", Code.VERSION_CONFLICT),
        ("with a hospital missing", Code.HOSPITAL_UNAVAILABLE),
        ("in the database", Code.DATABASE_UNAVAILABLE),
        ("to connect", Code.DATABASE_UNAVAILABLE),
    ],
)
async def test_every_failure_is_a_problem_without_its_text(client: httpx.AsyncClient, how: str, code: Code) -> None:
    with capture_logs() as logs:
        answer = await client.get(f"/v1/fails/{how}")
    assert problem_of(answer)["code"] == code.name
    assert ("retry-after" in answer.headers) == (code.status == 503)
    assert {entry["event"] for entry in logs} >= {"request"}


async def test_a_problem_carries_its_members(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v1/fails/with a problem"))["version"] == 4
    assert problem_of(await client.get("/v1/fails/with a hospital missing"))["hospital"] == "HospitalB"


async def test_an_unknown_outcome_is_accepted_and_says_where_to_ask(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/fails/without an outcome")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/transactions/{'a' * 64}"


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("abcdef0123456789", True), ("short", False), ("x" * 65, False), ("new\tline0000", False), ('"quoted-id"', False)],
)
async def test_a_request_id_is_kept_if_it_is_plain(client: httpx.AsyncClient, given: str, is_kept: bool) -> None:
    answer = await client.get("/healthz", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is is_kept
    assert len(answer.headers["x-request-id"]) >= 8


async def test_two_requests_have_two_ids(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_metrics_are_labelled_by_template(client: httpx.AsyncClient) -> None:
    before = _requests("/v1/items/{item}")
    await client.post(f"/v1/items/{CANARY}", json={"count": 3})
    await client.get(f"/v1/{CANARY}/{CANARY}")
    assert _requests("/v1/items/{item}") == before + 1
    text = (await client.get("/metrics")).text
    assert CANARY not in text
    assert 'route="(none)"' in text


def _requests(route: str) -> float:
    labels = {"method": "POST", "route": route, "status": "200"}
    return REGISTRY.get_sample_value("emr_http_request_seconds_count", labels) or 0


async def test_a_log_line_of_a_request_has_its_template_and_no_more(client: httpx.AsyncClient) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = await client.post(f"/v1/items/{CANARY}?limit=2", json={"count": 3})
    (line,) = [entry for entry in logs if entry["event"] == "request"]
    assert line["route"] == "/v1/items/{item}"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert CANARY not in json.dumps(line)


async def test_answers_are_not_to_be_cached_or_sniffed(client: httpx.AsyncClient) -> None:
    headers = (await client.post("/v1/items/1", json={"count": 3})).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


async def holds() -> bool:
    return True


async def holds_not() -> bool:
    return False


async def breaks() -> bool:
    raise RuntimeError(CANARY)


@pytest.mark.parametrize(("check", "status"), [(holds, 200), (holds_not, 503), (breaks, 503)])
async def test_readiness_is_what_its_checks_say(check: Callable[[], Any], status: int) -> None:
    async with running(Services({"database": holds, "ledger": check})) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == status
        assert answer.json()["checks"] == {"database": "ok", "ledger": "ok" if status == 200 else "failing"}
        assert (await client.get("/healthz")).json() == {"status": "alive"}


async def test_leaving_closes_what_bootstrap_opened() -> None:
    services = Services()
    async with running(services):
        assert services.is_open
    assert not services.is_open

"""Calling the hospitals' HTTP APIs as a person: with a token of the development issuer and an Idempotency-Key."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx
from emr_network.home import Home
from emr_network.ports import Ports

from emr_deploy.tokens import token_for

TIMEOUT_SECONDS = 40.0
WRITING = {"POST", "PUT", "DELETE", "PATCH"}


class Refused(Exception):
    """An API answered with a problem document: its status, its stable code, and what it says of the case."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}{f': {detail}' if detail else ''}")
        self.status = status
        self.code = code


class Unreachable(Exception):
    """No service answers at that address."""


@dataclass(frozen=True)
class Answer:
    """What an API answered, be it yes or no."""

    status: int
    body: dict[str, Any]
    headers: httpx.Headers = field(default_factory=httpx.Headers)

    @property
    def code(self) -> str | None:
        """The stable code of a refusal, None for any other answer."""
        return None if self.status < 400 else str(self.body.get("code", "no-problem-document"))

    def required(self) -> dict[str, Any]:
        """The body of an answer that says it is done. Raises Refused."""
        if self.status >= 300:
            raise Refused(self.status, self.code or "", str(self.body.get("detail", "")))
        return self.body


class Callers:
    """People of the hospitals, by the subject of their token. Use it with `async with`."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self._home = home
        self._ports = ports
        self._tokens: dict[tuple[str, str], str] = {}
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Callers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def url(self, service: str, organization: str) -> str:
        """The base of a service's API, without `/v1`. `service` may name an instance: `records-2`."""
        name, _, instance = service.partition("-")
        return f"http://{self._ports.address('-'.join(filter(None, (name, organization, instance))))}"

    async def token(self, organization: str, subject: str) -> str:
        key = (organization, subject)
        if key not in self._tokens:
            self._tokens[key] = await token_for(self._home, self._ports, organization, subject)
        return self._tokens[key]

    async def call(
        self,
        organization: str,
        subject: str,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
    ) -> Answer:
        """Calls `path` (below `/v1`) of a hospital's service in the name of `subject`. Raises Unreachable."""
        sent = {"Authorization": f"Bearer {await self.token(organization, subject)}"}
        if method in WRITING:
            sent["Idempotency-Key"] = secrets.token_hex(16)
        url = f"{self.url(service, organization)}/v1{path}"
        content = body if isinstance(body, bytes) else None
        if content is not None:
            sent["Content-Type"] = "application/json"
        try:
            answer = await self._http.request(
                method,
                url,
                json=body if content is None else None,
                content=content,
                params=params,
                headers={**sent, **(headers or {})},
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{service} of hospital {organization}: {type(error).__name__}") from error
        return Answer(answer.status_code, _body(answer), answer.headers)


def _body(answer: httpx.Response) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {"items": content}

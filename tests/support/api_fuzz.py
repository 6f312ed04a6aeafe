"""Generated requests against a service, as its own description says they look and as it says they do not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Err
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SHORTEST_ECHO = 6
TIMEOUT_SECONDS = 60
WELL_KNOWN = ("application/", "charset", "HospitalA", "HospitalB")


@dataclass(frozen=True)
class Caller:
    """``path`` are values for path parameters that exist, so that not every request ends at the first door."""

    role: str
    token: str
    path: Mapping[str, str]


def fuzz(url: str, callers: Sequence[Caller], *, examples: int, but: Mapping[str, frozenset[str]], chance: int) -> int:
    """Sends ``examples`` requests to every operation; how many that were. Raises AssertionError, or what schemathesis
    raises, at the first answer that is wrong. ``but`` are roles that must not call an operation: they would succeed.
    The same ``chance`` and description make the same requests.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    said = "\n".join(_texts(schema.raw_schema))  # by the service itself: of all this there are examples
    sent = 0
    for result in schema.get_all_operations():
        if isinstance(result, Err):
            raise result.err()
        operation = result.ok()
        name = f"{operation.method.upper()} {operation.path}"
        allowed = [one for one in callers if one.role not in but.get(name, frozenset())]
        if not allowed:
            continue
        requests_made = st.one_of(
            *(
                operation.as_strategy(generation_mode=mode)
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            )
        )

        @seed(chance)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=requests_made, caller=st.sampled_from(allowed), is_real=st.booleans())
        def send(case: Case[Any], caller: Caller, is_real: bool) -> None:
            nonlocal sent
            _send(url, case, caller, is_real, said)
            sent += 1

        try:
            send()
        except Exception as error:
            error.add_note(f"while fuzzing {name}, API_FUZZ_SEED={chance}")
            raise
    return sent


def _send(url: str, case: Case[Any], caller: Caller, is_real: bool, said: str) -> None:
    if is_real and case.path_parameters:
        case.path_parameters.update({key: value for key, value in caller.path.items() if key in case.path_parameters})
    headers = {"Authorization": f"Bearer {caller.token}"}
    if case.headers is not None:
        case.headers.pop("Authorization", None)
    if is_real:
        headers["Idempotency-Key"] = secrets.token_hex(16)
    try:
        answer = case.call(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS)
    except (requests.exceptions.InvalidHeader, UnicodeError, ValueError):
        return  # nothing that HTTP could carry
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400:
        echoed = [text for text in _texts_of(case, said) if text in answer.text]
        assert not echoed, f"{answer.status_code} repeats what was sent"
        assert answer.headers.get("x-request-id")


def _texts_of(case: Case[Any], said: str) -> Iterator[str]:
    for part in (case.body, case.path_parameters, case.query):
        for text in _texts(part):
            if len(text) >= SHORTEST_ECHO and text not in said and not text.startswith(WELL_KNOWN):
                yield text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(key)
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)

"""Request bodies that hold clinical JSON: read as it came in, decimals with their digits, nothing given twice.

FastAPI's own reading of JSON turns ``1.0`` into a float and lets the last of two equal keys win.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from emr_model.clinical.canonical import JsonObject, parse_object
from emr_model.clinical.errors import CanonicalJsonError
from emr_model.ledger.codes import Code
from fastapi import Request
from pydantic import BaseModel, ValidationError

from emr_common.problems import Problem, describe_errors

PARSED_AT_ONCE_BYTES = 16 * 1024
"""A body up to that size is read in less time than a thread takes to begin with it."""
MEDIA_TYPES = frozenset({"application/json", "application/fhir+json"})

B = TypeVar("B", bound=BaseModel)


async def clinical_json(request: Request) -> JsonObject:
    """The body as ``emr_model.clinical.canonical`` reads it. Raises Problem UNSUPPORTED_MEDIA_TYPE or
    MALFORMED_REQUEST.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE)
    body = await request.body()
    try:
        return parse_object(body) if len(body) <= PARSED_AT_ONCE_BYTES else await asyncio.to_thread(parse_object, body)
    except CanonicalJsonError as error:
        raise Problem(Code.MALFORMED_REQUEST, str(error)) from None


async def clinical_body(request: Request, kind: type[B]) -> B:
    """The body as ``kind``, whose clinical members are ``dict[str, Any]``. Raises also Problem VALIDATION_FAILED."""
    value = await clinical_json(request)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise Problem(Code.VALIDATION_FAILED, members=describe_errors("body", error.errors())) from None


def clinical_body_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """What a route passes as ``openapi_extra`` so that its body is documented all the same."""
    schema = kind.model_json_schema()
    inlined = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined}}}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """References lead to ``$defs``, which an OpenAPI document does not have."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items() if name != "discriminator"}

"""Does a resource validate as FHIR R4? Answers name places and kinds of mistake, never what was found there.

The models of fhir.resources judge; nothing is ever serialized from them, because they rewrite what came in (``+00:00``
becomes ``Z``). They are also lenient: a number passes as a date, text that holds JSON passes as an object. So the
accepted model is laid beside the input, and where the shapes differ the resource is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.resource import Resource
from pydantic import BaseModel, ValidationError

from emr_model.clinical.bundle import Entry
from emr_model.clinical.limits import PROBLEMS_MAX

UNKNOWN_TYPE = "unknown"
TOO_MANY = "too-many-mistakes"


@dataclass(frozen=True)
class ResourceProblem:
    """One mistake: the entry's position (None for the note as a whole), its type, a field path, and a stable reason.

    ``resource_type`` is a FHIR type or ``unknown``: what the sender wrote there is not repeated.
    """

    position: int | None
    resource_type: str
    field: str
    reason: str


class Validator:
    """Validates the entries of one bundle, each at most once: copies of a Practitioner stand in many notes.

    After ``PROBLEMS_MAX`` mistakes nothing is looked at any more: every further entry has ``too-many-mistakes``.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[ResourceProblem, ...]] = {}
        self._found = 0

    def problems(self, entry: Entry) -> tuple[ResourceProblem, ...]:
        """Empty when the resource validates."""
        if entry.position not in self._known:
            self._known[entry.position] = self._judged(entry)
            self._found += len(self._known[entry.position])
        return self._known[entry.position]

    def _judged(self, entry: Entry) -> tuple[ResourceProblem, ...]:
        if self._found < PROBLEMS_MAX:
            return tuple(_problems(entry))
        return (ResourceProblem(entry.position, known_type(entry.resource_type), "", TOO_MANY),)


def known_type(name: str) -> str:
    """The name, if it is that of a FHIR R4 resource; else ``unknown``."""
    return name if _model_of(name) is not None else UNKNOWN_TYPE


def _problems(entry: Entry) -> Iterator[ResourceProblem]:
    model = _model_of(entry.resource_type)
    if model is None:
        yield ResourceProblem(entry.position, UNKNOWN_TYPE, "resourceType", "not-a-fhir-resource")
        return
    for field, reason in _judge(model, entry.resource):
        yield ResourceProblem(entry.position, entry.resource_type, field, reason)


def _model_of(name: str) -> type[BaseModel] | None:
    try:
        model = get_fhir_model_class(name)
    except ValueError:
        return None
    return model if issubclass(model, Resource) and name not in {"Resource", "DomainResource"} else None


def _judge(model: type[BaseModel], resource: Any) -> Iterator[tuple[str, str]]:
    try:
        accepted = model.model_validate(resource)
    except ValidationError as error:
        if error.error_count() > PROBLEMS_MAX:
            yield "", TOO_MANY
            return
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            yield _field_of(item["loc"], item["type"]), item["type"].replace("_", "-").replace(".", "-")
    except (KeyError, TypeError, ValueError, AttributeError):
        # a contained resource of an unknown type escapes the library as a KeyError
        yield "", "not-a-fhir-resource"
    else:
        yield from ((".".join(path), "shape-differs") for path in _differences(accepted, resource, ()))


def _field_of(location: tuple[int | str, ...], kind: str) -> str:
    """The path to the mistake; a name that the sender made up is left out."""
    known = location[:-1] if kind == "extra_forbidden" else location
    return ".".join(str(part) for part in known)


def _differences(accepted: Any, raw: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(accepted, BaseModel):
        yield from _model_differences(accepted, raw, path)
    elif isinstance(accepted, list):
        if not isinstance(raw, list) or len(raw) != len(accepted):
            yield path
        else:
            for index, (one, other) in enumerate(zip(accepted, raw, strict=True)):
                yield from _differences(one, other, (*path, str(index)))
    elif not _same_kind(accepted, raw):
        yield path


def _model_differences(accepted: BaseModel, raw: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(raw, dict):
        yield path
        return
    fields = {field.alias or name: name for name, field in type(accepted).model_fields.items()}
    for key, value in raw.items():
        if key == "resourceType":
            continue
        if key not in fields:
            yield path
        else:
            yield from _differences(getattr(accepted, fields[key]), value, (*path, key))


def _same_kind(accepted: Any, raw: Any) -> bool:
    if accepted is None:
        return raw is None
    if isinstance(accepted, bool):
        return isinstance(raw, bool)
    if isinstance(accepted, int):
        return type(raw) is int
    if isinstance(accepted, (Decimal, float)):
        return type(raw) in (int, Decimal)
    return isinstance(raw, str)

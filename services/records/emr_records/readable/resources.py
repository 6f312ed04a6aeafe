"""FHIR R4 resources in a line each: words that somebody put there, and codes only where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from emr_model.clinical.canonical import JsonObject

Line = tuple[str, str, str]
"""Kind, what, value or time."""

NOT_SHOWN = frozenset({"Patient", "Practitioner", "Organization", "Location", "Encounter", "DocumentReference"})
NAMES = ("code", "vaccineCode", "medicationCodeableConcept", "description", "category", "type", "title")
TIMES = (
    "effectiveDateTime",
    "performedDateTime",
    "occurrenceDateTime",
    "onsetDateTime",
    "authoredOn",
    "recordedDate",
    "started",
)
PERIODS = ("effectivePeriod", "performedPeriod", "period")


def lines(resources: list[JsonObject]) -> Iterator[Line]:
    """In the order of the note, without people, places, and what is shown in another form."""
    for resource in resources:
        kind = str(resource.get("resourceType", ""))
        if kind not in NOT_SHOWN:
            yield _words(kind), _name(resource), _value(resource) or day(_time(resource))


def concept(value: Any) -> str:
    """Text of a CodeableConcept, a Coding or a string; of the first of a list; "" if it says nothing."""
    match value:
        case list():
            return next((text for item in value if (text := concept(item))), "")
        case dict():
            own = value.get("text") or value.get("display") or concept(value.get("coding"))
            return str(own or value.get("code") or "")
        case _:
            return value if isinstance(value, str) else ""


def day(moment: Any) -> str:
    """The day of a FHIR date or instant, as it stands there."""
    return moment[:10] if isinstance(moment, str) else ""


def _name(resource: JsonObject) -> str:
    return next((text for member in NAMES if (text := concept(resource.get(member)))), "(without a name)")


def _value(resource: JsonObject) -> str:
    parts = [part for part in resource.get("component") or [] if isinstance(part, dict)]
    values = [f"{concept(part.get('code'))} {_own_value(part)}".strip() for part in parts]
    return ", ".join([text for text in (_own_value(resource), *values) if text])


def _own_value(holder: JsonObject) -> str:
    for member, shown in VALUES.items():
        if member in holder:
            return shown(holder[member])
    return ""


def _quantity(value: Any) -> str:
    if not isinstance(value, dict) or "value" not in value:
        return ""
    return f"{value.get('comparator', '')}{value['value']} {value.get('unit') or value.get('code') or ''}".strip()


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, "") if isinstance(value, bool) else str(value)


VALUES: dict[str, Callable[[Any], str]] = {
    "valueQuantity": _quantity,
    "valueCodeableConcept": concept,
    "valueString": _plain,
    "valueBoolean": _plain,
    "valueInteger": _plain,
    "valueDateTime": day,
}


def _time(resource: JsonObject) -> Any:
    periods = [resource[member].get("start") for member in PERIODS if isinstance(resource.get(member), dict)]
    return next((moment for moment in [*(resource.get(member) for member in TIMES), *periods] if moment), "")


def _words(kind: str) -> str:
    """``MedicationRequest`` as ``Medication request``."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip()
    return spaced.capitalize()

"""FHIR's dateTime: a year, a month, a day, or an instant with its offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

_FORM = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d{2})(-(?P<day>\d{2})"
    r"(T(?P<time>\d{2}:\d{2}:\d{2})(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?"
)


class InvalidFhirTime(ValueError):
    """The value is not a FHIR dateTime."""


def parse_fhir_time(value: Any) -> datetime:
    """The first instant of what is meant, with its offset; a bare date is in UTC. Raises InvalidFhirTime."""
    match = _FORM.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if match is None:
        raise InvalidFhirTime
    try:
        if match["time"] is None:
            return datetime(int(match["year"]), int(match["month"] or 1), int(match["day"] or 1), tzinfo=UTC)
        moment = datetime.fromisoformat(value)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidFhirTime from None
    return moment


def time_and_month(value: Any) -> tuple[datetime, str | None]:
    """The same instant, and ``YYYY-MM`` as it stands in the value, so the month at the place of the visit; None for a
    bare year. Raises InvalidFhirTime.
    """
    moment = parse_fhir_time(value)
    return moment, value[:7] if len(value) >= 7 else None

"""Reading the entries of a FHIR Bundle and following the references between them, whatever shape the input has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emr_model.clinical.canonical import JsonObject
from emr_model.clinical.errors import BundleMalformed

READABLE_TYPES = frozenset({"transaction", "batch", "collection", "searchset"})


@dataclass(frozen=True, repr=False)
class Entry:
    """A resource as it came in, and where: its fullUrl and its position in the bundle, from 0."""

    position: int
    full_url: str
    resource: JsonObject

    @property
    def resource_type(self) -> str:
        return str(self.resource["resourceType"])


class Bundle:
    """Entries in their order, found again by any reference that means them."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self._by_reference: dict[str, Entry] = {}
        for entry in entries:
            for name in _names_of(entry):
                if name in self._by_reference:
                    raise BundleMalformed(f"entry {entry.position} has the fullUrl or id of an earlier entry")
                self._by_reference[name] = entry

    def resolve(self, reference: str | None) -> Entry | None:
        """The entry that a reference means: by fullUrl or by ``Type/id``; None for what is elsewhere."""
        if reference is None:
            return None
        return self._by_reference.get(reference) or self._by_reference.get(reference.partition("/_history/")[0])

    def of_type(self, resource_type: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.resource_type == resource_type)


def read_bundle(value: Any) -> Bundle:
    """The entries of parsed JSON. Raises BundleMalformed, naming the entry by its position only."""
    if not isinstance(value, dict) or value.get("resourceType") != "Bundle":
        raise BundleMalformed("not a FHIR Bundle")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in READABLE_TYPES:
        raise BundleMalformed(f"the bundle's type is not one of {', '.join(sorted(READABLE_TYPES))}")
    entries = value.get("entry", [])
    if not isinstance(entries, list):
        raise BundleMalformed("the bundle's entries are not a list")
    return Bundle(tuple(_entry(position, entry) for position, entry in enumerate(entries)))


def references_in(value: Any) -> Iterator[str]:
    """Every literal reference anywhere in a resource, contained resources included."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            reference = item.get("reference")
            if isinstance(reference, str):
                yield reference
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def reference(value: Any) -> str | None:
    """The literal reference of a FHIR Reference; None if it has none or is not one."""
    text = value.get("reference") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def references(value: Any) -> tuple[str, ...]:
    """The literal references of a list of FHIR References, or of a single one."""
    items = value if isinstance(value, list) else [value]
    return tuple(text for text in map(reference, items) if text is not None)


def _entry(position: int, value: Any) -> Entry:
    resource = value.get("resource") if isinstance(value, dict) else None
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise BundleMalformed(f"entry {position} has no resource")
    full_url = value.get("fullUrl")
    if not isinstance(full_url, str) or not full_url:
        raise BundleMalformed(f"entry {position} has no fullUrl")
    return Entry(position, full_url, resource)


def _names_of(entry: Entry) -> set[str]:
    identifier = entry.resource.get("id")
    if isinstance(identifier, str):
        return {entry.full_url, f"{entry.resource_type}/{identifier}"}
    return {entry.full_url}

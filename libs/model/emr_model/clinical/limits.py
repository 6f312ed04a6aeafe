"""How large clinical content may be, in bytes unless the name says otherwise."""

from __future__ import annotations

NOTE_MAX_BYTES = 256 * 1024
"""A note's, or demographics', canonical bytes."""

SNAPSHOT_MAX_BYTES = 8 * 1024 * 1024
"""A snapshot's bytes when inflated."""

IMPORT_MAX_BYTES = 8 * 1024 * 1024
"""The body of an import."""

BODY_MAX_BYTES = 1024 * 1024
"""Any other request body."""

TEXT_MAX_CHARACTERS = 60_000
"""A typed note's text: what is left of a note after base64 and four-byte characters, with room for its wrapping."""

JSON_MAX_DEPTH = 64
"""Objects and arrays inside each other. The deepest FHIR resource seen has 11."""

JSON_MAX_MEMBERS = 1000
"""Members of one object. A FHIR resource has fewer than a hundred."""

JSON_MAX_ITEMS = 20_000
"""Items of one array: a bundle's entries, or what a Provenance is about."""

PROBLEMS_MAX = 2000
"""Mistakes after which the rest of a bundle is not looked at: each costs far more than the bytes that hold it."""

NUMBER_MAX_CHARACTERS = 64
"""A JSON number's literal. FHIR asks for 18 significant digits."""

NUMBER_MAX_EXPONENT = 400
"""The power of ten of a number's last digit, either way: ``1E+999999999`` is small to write and endless to convert."""

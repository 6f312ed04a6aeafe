"""A generated hospital in Postgres. Rows are what the projector would write, put there by COPY and not by it.

Codes and words follow Zipf's law; ten notes an EMR over ten years; one note of four is a typed text of forty words.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

OWNER = "HospitalA"
NOTES_AN_EMR = 10
FIRST_DAY = datetime(2016, 1, 1, tzinfo=UTC)
DAYS = 3650
CHUNK = 2000
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu", "kan")


def _zipf(count: int) -> list[float]:
    return list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))


@dataclass
class Vocabulary:
    """What notes are made of; the same for the same seed."""

    dice: random.Random = field(default_factory=lambda: random.Random(7))
    words: list[str] = field(default_factory=lambda: ["".join(each) for each in itertools.product(SYLLABLES, repeat=3)])
    conditions: list[str] = field(default_factory=lambda: [str(38000000 + 17 * number) for number in range(400)])
    medications: list[str] = field(default_factory=lambda: [str(310000 + 13 * number) for number in range(300)])

    def __post_init__(self) -> None:
        self._weights = {id(each): _zipf(len(each)) for each in (self.words, self.conditions, self.medications)}

    def pick(self, words: list[str], count: int) -> list[str]:
        return self.dice.choices(words, cum_weights=self._weights[id(words)], k=count)

    def name(self) -> str:
        return "".join(self.dice.choices(SYLLABLES, k=4)).capitalize()


@dataclass
class Chunk:
    emrs: list[tuple[Any, ...]] = field(default_factory=list)
    notes: list[tuple[Any, ...]] = field(default_factory=list)
    conditions: list[tuple[Any, ...]] = field(default_factory=list)
    medications: list[tuple[Any, ...]] = field(default_factory=list)
    identifiers: list[tuple[Any, ...]] = field(default_factory=list)
    pseudonyms: list[tuple[Any, ...]] = field(default_factory=list)


EMR = (
    *("emr_id", "owner_msp", "patient_id", "patient_key", "version", "visits", "life", "demographics_revision"),
    *("demographics_commitment", "demographics_sha256", "family_name", "given_names", "birth_date", "sex"),
    *("created_at", "transaction_id", "block"),
)
CONCEPT = ("emr_id", "version", "position", "system", "code", "display")
NOTE = """
    insert into care.note (emr_id, version, note_id, is_visit, author, at, commitment, sha256, kind, period_start,
        month, encounter_class, encounter_type, encounter_type_display, content, words, transaction_id, block)
    select emr_id, version, emr_id || version, is_visit, 'physician', at, $7, $7, case when is_visit then 'encounter'
        else 'text' end, case when is_visit then at end, date_trunc('month', at at time zone 'UTC')::date,
        case when is_visit then 'AMB' end, case when is_visit then code end,
        case when is_visit then 'Visit ' || code end,
        jsonb_build_object('resourceType', 'Bundle', 'entry', text), to_tsvector('simple', text), $7, version
    from unnest($1::text[], $2::int[], $3::bool[], $4::timestamptz[], $5::text[], $6::text[])
        as row (emr_id, version, is_visit, at, code, text)
"""


async def fill(connection: asyncpg.Connection[Any], notes: int) -> None:
    """An empty, migrated database gets ``notes`` notes, and statistics."""
    for chunk in _chunks(Vocabulary(), notes // NOTES_AN_EMR):
        await connection.copy_records_to_table("emr", schema_name="care", columns=EMR, records=chunk.emrs)
        await connection.execute(NOTE, *(list(each) for each in zip(*chunk.notes, strict=True)), "0" * 64)
        for table, rows in (("condition", chunk.conditions), ("medication", chunk.medications)):
            await connection.copy_records_to_table(table, schema_name="care", columns=CONCEPT, records=rows)
        names = ("identifier_hmac", "patient_id", "emr_id")
        await connection.copy_records_to_table(
            "patient_identifier", schema_name="hospital", columns=names, records=chunk.identifiers
        )
        await connection.copy_records_to_table("pseudonym", schema_name="care", records=chunk.pseudonyms)
    await connection.execute("insert into care.position (partition, block) select g, 1000 from generate_series(0, 5) g")
    await connection.execute("vacuum analyze")


def _chunks(vocabulary: Vocabulary, emrs: int) -> Iterator[Chunk]:
    for start in range(0, emrs, CHUNK):
        chunk = Chunk()
        for _ in range(start, min(start + CHUNK, emrs)):
            _add(chunk, vocabulary)
        yield chunk


def _add(chunk: Chunk, vocabulary: Vocabulary) -> None:
    dice = vocabulary.dice
    emr_id, patient_id, digest = f"{dice.getrandbits(128):032x}", f"{dice.getrandbits(128):032x}", "0" * 64
    born = date(1930, 1, 1) + timedelta(days=dice.randrange(32000))
    names = (vocabulary.name(), vocabulary.name())
    counts = (NOTES_AN_EMR, NOTES_AN_EMR, "active", 1)
    who = (digest, digest, *names, born, dice.choice(("female", "male")))
    chunk.emrs.append((emr_id, OWNER, patient_id, digest, *counts, *who, FIRST_DAY, digest, 1))
    chunk.identifiers.append((dice.randbytes(32), patient_id, emr_id))
    years = set()
    for version in range(1, NOTES_AN_EMR + 1):
        at = FIRST_DAY + timedelta(minutes=dice.randrange(DAYS * 1440))
        is_visit = dice.random() < 0.75
        text = " ".join(vocabulary.pick(vocabulary.words, 12 if is_visit else 40))
        conditions = sorted(set(vocabulary.pick(vocabulary.conditions, 2)))
        chunk.notes.append((emr_id, version, is_visit, at, conditions[0], text))
        for rows, codes in (
            (chunk.conditions, conditions),
            (chunk.medications, vocabulary.pick(vocabulary.medications, 1)),
        ):
            rows.extend((emr_id, version, place, "system", code, f"Code {code}") for place, code in enumerate(codes))
        years.add(at.year)
    chunk.pseudonyms.extend((emr_id, year, f"{dice.getrandbits(128):032x}") for year in sorted(years))

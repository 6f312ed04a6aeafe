"""What is searched for, by the size of the hospital: where it can be, so that every size fills the same page."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import asyncpg
from emr_records.schemas import SearchIn

from benchmarks.reads.rows import Vocabulary

Make = Callable[[random.Random], SearchIn]

SHORT = 5
"""A page that a name's first letter fills with 100 EMRs."""


@dataclass
class Known:
    """What criteria are taken from. ``rare`` are the rarest codes of those that fill more than a page."""

    notes: int
    people: list[dict[str, Any]]
    hmacs: list[bytes]
    rare: list[str]

    @classmethod
    async def of(cls, connection: asyncpg.Connection[Any], notes: int) -> Known:
        columns = "family_name, given_names, birth_date"
        people = await connection.fetch(f"select {columns} from care.emr order by emr_id limit 500")
        hmacs = await connection.fetch("select identifier_hmac from hospital.patient_identifier limit 500")
        rare = await connection.fetch(
            """select code from care.condition group by code having count(distinct emr_id) >= 45
            order by count(distinct emr_id) limit 10"""
        )
        return cls(notes, [dict(row) for row in people], [row[0] for row in hmacs], [row[0] for row in rare])


def searches(known: Known) -> dict[str, Make]:
    """Criteria that meet something, by name."""
    words = Vocabulary()
    letters = 1 if known.notes < 10_000 else 3 if known.notes < 1_000_000 else 5
    length = 365 if known.notes < 10_000 else 30

    def frequent(dice: random.Random, codes: list[str]) -> str:
        return codes[dice.randrange(3)]

    def begins(dice: random.Random, column: str, most: int) -> str:
        beginning: str = dice.choice(known.people)[column][: min(letters, most)]
        return beginning

    def days(dice: random.Random, length: int) -> dict[str, Any]:
        first = date(2016, 1, 1) + timedelta(days=dice.randrange(3650 - length))
        return {"visited_from": first, "visited_to": first + timedelta(days=length)}

    return {
        "identifier": lambda _: SearchIn.model_validate({"identifier": {"system": "s", "value": "v"}}),
        "family name": lambda dice: SearchIn(family_name=begins(dice, "family_name", 5), limit=SHORT),
        "given name": lambda dice: SearchIn(given_name=begins(dice, "given_names", 5), limit=SHORT),
        "birth date": lambda dice: SearchIn(birth_date=dice.choice(known.people)["birth_date"]),
        "condition, frequent": lambda dice: SearchIn(condition_code=frequent(dice, words.conditions)),
        "condition, rare": lambda dice: SearchIn(condition_code=dice.choice(known.rare)),
        "medication, frequent": lambda dice: SearchIn(medication_code=frequent(dice, words.medications)),
        "visits of some days": lambda dice: SearchIn(**days(dice, length)),
        "condition and 365 days": lambda dice: SearchIn(
            condition_code=frequent(dice, words.conditions),
            **days(dice, 365),
        ),
        "name and condition": lambda dice: SearchIn(
            family_name=begins(dice, "family_name", 2),
            condition_code=frequent(dice, words.conditions),
            limit=SHORT,
        ),
        "word, frequent": lambda dice: SearchIn(text=words.words[dice.randrange(5)]),
        "word of 1 note in 1,000": lambda dice: SearchIn(text=words.words[dice.randrange(2000, len(words.words))]),
        "two words": lambda dice: SearchIn(text=" ".join(words.pick(words.words, 2))),
    }

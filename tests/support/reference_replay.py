"""What the rows of schema `care` must be, told from blocks alone and by other code than the projector's.

One pass over whole blocks in the order of the ledger, plain JSON, rows in dictionaries: nothing of `emr_indexer` and
nothing of the model's classes is used. Slow and simple is the point.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from emr_common.sealing import ContentKey, SealingFailed, WrappingKey, associated_data
from emr_readmodel import care, hospital
from hlf.blocks import Block, BlockTransaction, split_composite_key
from sqlalchemy.ext.asyncio import AsyncEngine

TABLES = ("organization", "emr", "note", "condition", "medication", "pseudonym", "sharing", "ending", "disclosure")
DEMOGRAPHICS = ("demographics", "family_name", "given_names", "birth_date", "sex")
OF_CONTENT = (
    "kind",
    "amends",
    "period_start",
    "month",
    "encounter_class",
    "encounter_type",
    "encounter_type_display",
    "content",
)

Row = dict[str, Any]
Value = dict[str, Any]


class Reference:
    def __init__(
        self, msp_id: str, keys: Mapping[str, ContentKey], pseudonym_key: bytes, namespace: str = "emr"
    ) -> None:
        self._msp_id = msp_id
        self._keys = keys
        self._pseudonym_key = pseudonym_key
        self._namespace = namespace
        self.tables: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in TABLES}

    def read(self, blocks: Iterable[Block]) -> Reference:
        for block in blocks:
            for transaction in block.transactions:
                if transaction.validation_code == 0:
                    self._transaction(block.number, transaction)
        return self

    def _transaction(self, block: int, transaction: BlockTransaction) -> None:
        self._by = {"transaction_id": transaction.transaction_id, "block": block}
        self._private = {
            split_composite_key(one.key): one.value
            for one in transaction.private_writes
            if (one.namespace, one.collection) == (self._namespace, f"_implicit_org_{self._msp_id}")
            and not one.is_delete
        }
        self._channel = transaction.channel
        self._counted = False
        endorsers = {one.msp_id for one in transaction.endorsers}
        for write in transaction.writes:
            if write.namespace == self._namespace and not write.is_delete and write.key.startswith("\x00"):
                kind, attributes = split_composite_key(write.key)
                if kind in ("org", "emr", "note", "access", "end", "life", "disclosure"):
                    self._write(kind, attributes, json.loads(write.value), endorsers)

    def _write(self, kind: str, attributes: tuple[str, ...], value: Value, endorsers: set[str]) -> None:
        if kind == "org":
            if attributes[0] in endorsers:
                row = {"msp_id": attributes[0], "name": value["name"], "sealing_keys": value["sealingKeys"]}
                self.tables["organization"][attributes] = {**row, **self._by}
            return
        emr = self.tables["emr"].get((attributes[0],))
        owner = value["owner"] if kind == "emr" and emr is None else (emr or {}).get("owner_msp")
        if owner is None or owner not in endorsers or (kind == "emr" and value["owner"] != owner):
            return
        if kind == "emr":
            self._emr(attributes[0], value, emr)
        elif kind == "note" and owner == self._msp_id:
            self._note(attributes[0], int(attributes[1]), value)
        elif kind == "life":
            self._life(attributes[0], value)
        elif kind == "access" and self._msp_id in (owner, attributes[1]):
            self._access(attributes, value)
        elif kind == "end" and self._msp_id in (owner, attributes[1]):
            self._end(attributes, value)
        elif kind == "disclosure" and self._msp_id in (owner, value["recipientMsp"]):
            self._disclosure(attributes, value)

    def _emr(self, emr_id: str, value: Value, known: Row | None) -> None:
        following = value.get("nextPatientKey")
        row = known or {"life": "active", "created_at": _moment(value["at"]), "visits": 0, "visit_transaction_id": None}
        row = {**dict.fromkeys(DEMOGRAPHICS), **row}
        self._counted = value["visits"] > row["visits"]
        row |= {
            "emr_id": emr_id,
            "owner_msp": value["owner"],
            "patient_id": value["patientId"],
            "patient_key": value["patientKey"],
            "next_patient_key": following["patientKey"] if following else None,
            "next_patient_key_from": _moment(following["countsFrom"]) if following else None,
            "version": value["version"],
            "visits": value["visits"],
            "demographics_revision": value["demographicsRevision"],
            "demographics_commitment": value["commitment"],
            "demographics_sha256": value["sha256"],
            **self._by,
        }
        if self._counted:
            row["visit_transaction_id"] = self._by["transaction_id"]
        if value["event"] in ("emr-created", "demographics-updated") and row["life"] != "erased":
            revision = value["demographicsRevision"]
            opened = self._open("demographics", emr_id, revision, value) if value["owner"] == self._msp_id else None
            row |= dict.fromkeys(DEMOGRAPHICS) if opened is None else _person(opened)
        self.tables["emr"][emr_id,] = row

    def _open(self, kind: str, emr_id: str, version: int, value: Value) -> str | None:
        sealed, key = self._private.get((kind, (emr_id, f"{version:010d}"))), self._keys.get(emr_id)
        if sealed is None or key is None:
            return None
        assert hashlib.sha256(sealed).hexdigest() == value["sha256"]
        where = {"channel": self._channel, "owner": self._msp_id, "recipient": self._msp_id}
        bound_to = associated_data(**where, kind=kind, emr_id=emr_id, version=version)  # type: ignore[arg-type]
        try:
            packed = key.open(sealed, bound_to)
        except SealingFailed as error:
            raise AssertionError("the reference cannot open what the ledger holds") from error
        canonical = zlib.decompress(packed[33:])
        assert hashlib.sha256(packed[1:33] + canonical).hexdigest() == value["commitment"]
        return canonical.decode()

    def _note(self, emr_id: str, version: int, value: Value) -> None:
        row = {
            "emr_id": emr_id,
            "version": version,
            "note_id": value["noteId"],
            "is_visit": self._counted,
            "author": value["author"],
            "at": _moment(value["at"]),
            "commitment": value["commitment"],
            "sha256": value["sha256"],
            **dict.fromkeys(OF_CONTENT),
            **self._by,
        }
        self.tables["note"][emr_id, version] = row
        if self.tables["emr"][emr_id,]["life"] == "erased":
            return
        opened = self._open("note", emr_id, version, value)
        if opened is not None:
            self._content(row, opened)

    def _content(self, row: Row, canonical: str) -> None:
        content = json.loads(canonical)
        resources = [entry["resource"] for entry in content.get("entry", [])]
        encounter: Value = next((one for one in resources if one["resourceType"] == "Encounter"), {})
        start = encounter.get("period", {}).get("start")
        types = [found for one in encounter.get("type", []) if (found := _concept(one))]
        tags = {tag["system"].rsplit(":", 1)[-1]: tag["code"] for tag in content.get("meta", {}).get("tag", [])}
        month = date.fromisoformat(f"{(start or row['at'].isoformat())[:7]}-01")
        row |= {
            "kind": tags["note-kind"],
            "amends": tags.get("amends"),
            "period_start": None if start is None else _moment(start),
            "month": month,
            "encounter_class": encounter.get("class", {}).get("code"),
            "encounter_type": types[0][1] if types else None,
            "encounter_type_display": types[0][2] if types else None,
            "content": content,
        }
        emr_id, version = row["emr_id"], row["version"]
        for table, kind, member in (
            ("condition", "Condition", "code"),
            ("medication", "MedicationRequest", "medicationCodeableConcept"),
        ):
            given = [_concept(one.get(member)) for one in resources if one["resourceType"] == kind]
            for position, concept in enumerate(one for one in given if one):
                names = dict(zip(("system", "code", "display"), concept, strict=True))
                place = {"emr_id": emr_id, "version": version, "position": position}
                self.tables[table][emr_id, version, position] = {**place, **names}
        digest = hmac.new(self._pseudonym_key, f"{emr_id}|{month.year}".encode(), "sha256").hexdigest()[:32]
        self.tables["pseudonym"][emr_id, month.year] = {
            "emr_id": emr_id,
            "period": month.year,
            "pseudonym": digest,
        }

    def _life(self, emr_id: str, value: Value) -> None:
        emr = self.tables["emr"][emr_id,]
        if emr["life"] == "erased" and value["state"] != "erased":
            return
        emr |= {"life": value["state"], **self._by}
        if value["state"] == "erased":
            emr |= dict.fromkeys(DEMOGRAPHICS)
            for key, note in self.tables["note"].items():
                if key[0] == emr_id:
                    note.update(dict.fromkeys(OF_CONTENT))
            for table in ("condition", "medication", "pseudonym"):
                self.tables[table] = {key: row for key, row in self.tables[table].items() if key[0] != emr_id}

    def _access(self, attributes: tuple[str, ...], value: Value) -> None:
        emr = self.tables["emr"][attributes[0],]
        request, owner = value.get("request") or {}, value.get("ownerApproval") or {}
        patient, snapshot = value.get("patientApproval") or {}, value.get("snapshot") or {}
        key = (*attributes, value["number"])
        ended = dict.fromkeys(("ended_at", "ended_by", "ended_why", "ending"))
        known = self.tables["sharing"].get(key, ended)
        self.tables["sharing"][key] = {
            "emr_id": attributes[0],
            "recipient_msp": attributes[1],
            "number": value["number"],
            "owner_msp": emr["owner_msp"],
            "patient_id": emr["patient_id"],
            "requested_at": _moment(request.get("at")),
            "requested_by": request.get("by"),
            "request_purpose": request.get("purpose"),
            "owner_approved_at": _moment(owner.get("at")),
            "owner_approved_by": owner.get("by"),
            "owner_approved_version": owner.get("version"),
            "recipient_key_id": owner.get("recipientKeyId"),
            "patient_approved_at": _moment(patient.get("at")),
            "patient_approved_by": patient.get("by"),
            "patient_approved_version": patient.get("version"),
            "expires_at": _moment(patient.get("expiresAt")),
            "snapshot_at": _moment(snapshot.get("at")),
            "snapshot_version": snapshot.get("version"),
            "snapshot_sha256": snapshot.get("sha256"),
            "snapshot_key_id": snapshot.get("recipientKeyId"),
            "access": value,
            **{name: known[name] for name in ended},
            **self._by,
        }

    def _end(self, attributes: tuple[str, ...], value: Value) -> None:
        known = self.tables["ending"].get(attributes, {"number": 0})
        if value["number"] < known["number"]:
            return
        names = {"emr_id": attributes[0], "recipient_msp": attributes[1], "number": value["number"]}
        self.tables["ending"][attributes] = {**names, "block": self._by["block"]}
        for key, sharing in self.tables["sharing"].items():
            if key[:2] == attributes and key[2] <= value["number"] > known["number"] and sharing["ended_at"] is None:
                by = {"ended_at": _moment(value["at"]), "ended_by": value["by"], "ended_why": value["why"]}
                sharing.update({**by, "ending": value, **self._by})

    def _disclosure(self, attributes: tuple[str, ...], value: Value) -> None:
        emr = self.tables["emr"][attributes[0],]
        self.tables["disclosure"][attributes] = {
            "emr_id": attributes[0],
            "transaction_id": attributes[1],
            "owner_msp": emr["owner_msp"],
            "patient_id": emr["patient_id"],
            "recipient_msp": value["recipientMsp"],
            "number": value["sharing"],
            "version": value["version"],
            "reader": value["reader"],
            "purpose": value["purpose"],
            "at": _moment(value["at"]),
            "block": self._by["block"],
        }


def _concept(value: Any) -> tuple[Any, Any, Any] | None:
    if not isinstance(value, dict):
        return None
    for coding in value.get("coding") or []:
        if coding.get("code"):
            return coding.get("system"), coding["code"], coding.get("display") or value.get("text")
    return (None, None, value["text"]) if value.get("text") else None


def _person(canonical: str) -> Row:
    person = json.loads(canonical)
    names = person.get("name") or [{}]
    chosen = next((name for use in ("official", "usual") for name in names if name.get("use") == use), names[0])
    born = person.get("birthDate")
    return {
        "demographics": person,
        "family_name": chosen.get("family"),
        "given_names": " ".join(chosen.get("given", [])) or None,
        "birth_date": None if born is None else date.fromisoformat((born + "-01-01")[:10]),
        "sex": person.get("gender"),
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def digests(tables: Mapping[str, Iterable[Row]]) -> dict[str, str]:
    """One SHA-256 a table, over its rows in the order of their primary keys."""
    return {name: _digest(name, rows) for name, rows in tables.items()}


def _digest(name: str, rows: Iterable[Row]) -> str:
    keys = [column.name for column in care.emr.metadata.tables[f"care.{name}"].primary_key]
    ordered = sorted(rows, key=lambda row: tuple(row[key] for key in keys))
    digest = hashlib.sha256()
    for row in ordered:
        digest.update(json.dumps(row, sort_keys=True, default=_plain).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else value.isoformat()


def expected(reference: Reference) -> dict[str, str]:
    return digests({name: rows.values() for name, rows in reference.tables.items()})


async def actual(database: AsyncEngine) -> dict[str, str]:
    """The same of the rows that stand in Postgres: the columns that the reference knows."""
    found: dict[str, list[Row]] = {}
    async with database.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        for name in TABLES:
            table = care.emr.metadata.tables[f"care.{name}"]
            columns = [column for column in table.c if column.name not in UNTOLD.get(name, ())]
            found[name] = [dict(row) for row in (await connection.execute(sa.select(*columns))).mappings()]
    return digests(found)


UNTOLD = {"note": ("words",), "sharing": ("late_block",), "disclosure": ("late_block",)}
"""Columns that serve searches only and follow from others, or tell of how rows came about and not of the ledger."""


async def content_keys(database: AsyncEngine, wrapping: WrappingKey) -> dict[str, ContentKey]:
    async with database.connect() as connection:
        rows = await connection.execute(sa.select(hospital.emr_key.c.emr_id, hospital.emr_key.c.wrapped_keyset))
        return {emr_id: wrapping.unwrap(wrapped, emr_id) for emr_id, wrapped in rows}

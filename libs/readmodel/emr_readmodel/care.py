"""Schema ``care``: what derives from the ledger's blocks, for the services. The projector alone writes it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from emr_readmodel.columns import Json, Timestamp, key, metadata, optional, required

SCHEMA = "care"

generation = sa.Table(
    "generation",
    metadata,
    key("id", sa.Text(), "Part of the name of the projector's consumer group"),
    required("created_at", Timestamp, "When the schema was made", default="now()"),
    required(
        "reached",
        sa.BigInteger(),
        "Block up to which partitions were when their number changed and positions began anew; -1: never",
        default="-1",
    ),
    schema=SCHEMA,
    comment="One row: which filling of the schema this is. A new one is read into from the topics' start",
)

position = sa.Table(
    "position",
    metadata,
    key("partition", sa.Integer(), "Partition of the events topic"),
    required("block", sa.BigInteger(), "Every event of this partition up to this block is in; -1: none yet"),
    optional("marked_at", Timestamp, "Time of that block's last transaction on the ledger"),
    required("projected_at", Timestamp, "When the row was written", default="now()"),
    schema=SCHEMA,
    comment="How far each partition is. The least block over the partitions is as_of_block",
)

emr_position = sa.Table(
    "emr_position",
    metadata,
    key("emr_id", sa.Text(), "The EMR, or org:<MSP id> for a hospital's profile"),
    required("block", sa.BigInteger(), "Block of the last write that is in"),
    required("tx", sa.Integer(), "Transaction in that block, from 0"),
    required("write", sa.Integer(), "Write in that transaction, from 0"),
    schema=SCHEMA,
    comment="The last write projected, per EMR: an event at or before it is a repetition and changes nothing",
)

organization = sa.Table(
    "organization",
    metadata,
    key("msp_id", sa.Text(), "The hospital's MSP id"),
    required("name", sa.Text(), "The hospital's name"),
    required("sealing_keys", Json, "Public sealing keys as on the ledger: a list of {id, keyset}"),
    required("transaction_id", sa.Text(), "The transaction that wrote the profile"),
    required("block", sa.BigInteger(), "Its block"),
    schema=SCHEMA,
    comment="The hospitals of the channel",
)

emr = sa.Table(
    "emr",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    required("owner_msp", sa.Text(), "The hospital that owns it"),
    required("patient_id", sa.Text(), "The patient's ledger id at that hospital"),
    required("patient_key", sa.Text(), "SHA-256 of the patient's public key (hex)"),
    optional("next_patient_key", sa.Text(), "The key that replaces it (hex)"),
    optional("next_patient_key_from", Timestamp, "From when on the next key counts"),
    required("version", sa.Integer(), "Number of notes"),
    required("visits", sa.Integer(), "Number of notes that are visits"),
    optional("visit_transaction_id", sa.Text(), "The transaction that added the last visit"),
    required("life", sa.Text(), "active, erasure-requested or erased"),
    required("demographics_revision", sa.Integer(), "Revision of the demographics"),
    required("demographics_commitment", sa.Text(), "Commitment to the demographics (hex)"),
    required("demographics_sha256", sa.Text(), "SHA-256 of the sealed demographics (hex)"),
    optional("demographics", Json, "The FHIR Patient; null for another hospital's, a placeholder, or after erasure"),
    optional("family_name", sa.Text(), "Family name, from the demographics"),
    optional("given_names", sa.Text(), "Given names, separated by a space, from the demographics"),
    optional(
        "birth_date",
        sa.Date(),
        "Date of birth; the first day when only a month or a year is known",
    ),
    optional("sex", sa.Text(), "Administrative gender, from the demographics"),
    required("created_at", Timestamp, "The creating transaction's time"),
    required("transaction_id", sa.Text(), "The transaction that wrote it last"),
    required("block", sa.BigInteger(), "Block of that transaction"),
    sa.UniqueConstraint("owner_msp", "patient_id"),
    sa.CheckConstraint("life in ('active', 'erasure-requested', 'erased')", name="life"),
    schema=SCHEMA,
    comment="Every EMR of the channel; content of this hospital's own ones only",
)
family_name_key = sa.func.lower(emr.c.family_name).collate("C")
given_names_key = sa.func.lower(emr.c.given_names).collate("C")
"""By what names are searched and ordered: in any case, byte by byte, so that an index finds what begins alike."""
sa.Index("emr_family_name_idx", family_name_key, emr.c.emr_id)
sa.Index("emr_given_names_idx", given_names_key, emr.c.emr_id)
sa.Index("emr_birth_date_idx", emr.c.birth_date, emr.c.emr_id)

note = sa.Table(
    "note",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("version", sa.Integer(), "Place in the EMR, from 1"),
    required("note_id", sa.Text(), "The note's id, by which a repetition is recognized"),
    required("is_visit", sa.Boolean(), "Whether the note is a visit, as the ledger says"),
    required("author", sa.Text(), "Enrolment id of the physician"),
    required("at", Timestamp, "The transaction's time; a visit's own time is period_start"),
    required("commitment", sa.Text(), "Commitment to the content (hex)"),
    required("sha256", sa.Text(), "SHA-256 of the sealed content (hex)"),
    optional("kind", sa.Text(), "encounter, background, amendment or text; null for a placeholder"),
    optional("amends", sa.Text(), "Id of the note that an amendment amends"),
    optional("period_start", Timestamp, "Start of the encounter"),
    optional("month", sa.Date(), "First day of the encounter's month at its place, else of the ledger's in UTC"),
    optional("encounter_class", sa.Text(), "Code of the encounter's class, such as AMB"),
    optional("encounter_type", sa.Text(), "Code of the encounter's first type"),
    optional("encounter_type_display", sa.Text(), "That type in words"),
    optional("content", Json, "The canonical note; null for a placeholder or after erasure"),
    optional("words", TSVECTOR(), "What of the content people may look for by words; null as the content is"),
    required("transaction_id", sa.Text(), "The transaction that added it"),
    required("block", sa.BigInteger(), "Its block"),
    sa.UniqueConstraint("emr_id", "note_id"),
    schema=SCHEMA,
    comment="Notes of this hospital's own EMRs. A row without content is a placeholder, unless the EMR is erased",
)
sa.Index("note_month_idx", note.c.month, note.c.emr_id)
sa.Index("note_placeholder_idx", note.c.emr_id, note.c.version, postgresql_where=note.c.content.is_(None))
sa.Index("note_period_start_idx", note.c.period_start, note.c.emr_id, postgresql_where=note.c.is_visit)
sa.Index("note_words_idx", note.c.words, postgresql_using="gin")

condition = sa.Table(
    "condition",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("version", sa.Integer(), "The note"),
    key("position", sa.Integer(), "Place among the note's conditions, from 0"),
    optional("system", sa.Text(), "Code system, such as http://snomed.info/sct; null for words alone"),
    optional("code", sa.Text(), "Code in that system; null for words alone"),
    optional("display", sa.Text(), "The code in words"),
    schema=SCHEMA,
    comment="Conditions (FHIR Condition) in notes, each with its first coding",
)
sa.Index("condition_code_idx", condition.c.code, condition.c.emr_id)

medication = sa.Table(
    "medication",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("version", sa.Integer(), "The note"),
    key("position", sa.Integer(), "Place among the note's medications, from 0"),
    optional("system", sa.Text(), "Code system, such as that of RxNorm; null for words alone"),
    optional("code", sa.Text(), "Code in that system; null for words alone"),
    optional("display", sa.Text(), "The code in words"),
    schema=SCHEMA,
    comment="Medications (FHIR MedicationRequest) in notes, each with its first coding",
)
sa.Index("medication_code_idx", medication.c.code, medication.c.emr_id)

pseudonym = sa.Table(
    "pseudonym",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("period", sa.Integer(), "Calendar year in which the pseudonym stands"),
    required("pseudonym", sa.Text(), "HMAC of EMR and period under the hospital's pseudonym key, first 128 bits (hex)"),
    sa.UniqueConstraint("pseudonym"),
    schema=SCHEMA,
    comment="By what analysts may tell patients apart within a year and not beyond; deleted at erasure",
)


def _late_block() -> sa.Column[int]:
    told = "Block with which streams and webhooks tell it, when they may have passed its own; else null"
    return optional("late_block", sa.BigInteger(), told)


def told_block(table: sa.Table) -> sa.ColumnElement[int]:
    """Of a sharing or disclosure: when streams and webhooks that stand before this block reach it, they tell it."""
    return sa.func.coalesce(table.c.late_block, table.c.block)


sharing = sa.Table(
    "sharing",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("recipient_msp", sa.Text(), "The hospital it is shared with"),
    key("number", sa.Integer(), "Number of the sharing between the two, from 1"),
    required("owner_msp", sa.Text(), "The hospital that owns the EMR"),
    required("patient_id", sa.Text(), "The patient's ledger id at the owner"),
    optional("requested_at", Timestamp, "When the recipient asked; null when nobody asked"),
    optional("requested_by", sa.Text(), "Enrolment id of who asked"),
    optional("request_purpose", sa.Text(), "HL7 PurposeOfUse code of the request"),
    optional("owner_approved_at", Timestamp, "When the owner approved last"),
    optional("owner_approved_by", sa.Text(), "Enrolment id of who approved for the owner"),
    optional("owner_approved_version", sa.Integer(), "EMR version that the owner approved"),
    optional("recipient_key_id", sa.Text(), "Sealing key of the recipient that the owner's approval names"),
    optional("patient_approved_at", Timestamp, "When the patient approved last"),
    optional("patient_approved_by", sa.Text(), "Enrolment id of the patient"),
    optional("patient_approved_version", sa.Integer(), "EMR version that the patient approved"),
    optional("expires_at", Timestamp, "When the patient's approval ends by itself; null when never"),
    optional("snapshot_at", Timestamp, "When the current snapshot was shared"),
    optional("snapshot_version", sa.Integer(), "EMR version that the snapshot holds"),
    optional("snapshot_sha256", sa.Text(), "SHA-256 of the sealed snapshot (hex)"),
    optional("snapshot_key_id", sa.Text(), "Sealing key of the recipient that opens the snapshot"),
    optional("ended_at", Timestamp, "When the sharing was ended; null while it was not"),
    optional("ended_by", sa.Text(), "Enrolment id of who ended it"),
    optional("ended_why", sa.Text(), "declined, withdrawn, removed-by-patient or expired"),
    optional("access", Json, "The ledger's access~ value as written last for this number"),
    optional("ending", Json, "The ledger's end~ value that ended this number"),
    required("transaction_id", sa.Text(), "The transaction that changed it last"),
    required("block", sa.BigInteger(), "Its block"),
    _late_block(),
    schema=SCHEMA,
    comment="Sharings in which this hospital is owner or recipient; the state follows from row and time",
)
sa.Index("sharing_owner_msp_idx", sharing.c.owner_msp, sharing.c.emr_id)
sa.Index("sharing_recipient_msp_idx", sharing.c.recipient_msp, sharing.c.emr_id)
sa.Index("sharing_patient_id_idx", sharing.c.patient_id)
sa.Index("sharing_told_idx", told_block(sharing))

ending = sa.Table(
    "ending",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("recipient_msp", sa.Text(), "The hospital it was shared with"),
    required("number", sa.Integer(), "Every sharing between the two up to this number has ended; 0: none has"),
    required("block", sa.BigInteger(), "Block of the transaction that said so"),
    schema=SCHEMA,
    comment="The largest number that each end~ ever had: a smaller one written later revives nothing",
)

disclosure = sa.Table(
    "disclosure",
    metadata,
    key("emr_id", sa.Text(), "The EMR"),
    key("transaction_id", sa.Text(), "The receipt's transaction"),
    required("owner_msp", sa.Text(), "The hospital that owns the EMR"),
    required("patient_id", sa.Text(), "The patient's ledger id at the owner"),
    required("recipient_msp", sa.Text(), "The hospital that read"),
    required("number", sa.Integer(), "Number of the sharing"),
    required("version", sa.Integer(), "EMR version of the snapshot that was read"),
    required("reader", sa.Text(), "Enrolment id of the reader"),
    required("purpose", sa.Text(), "HL7 PurposeOfUse code"),
    required("at", Timestamp, "The transaction's time"),
    required("block", sa.BigInteger(), "Its block"),
    _late_block(),
    schema=SCHEMA,
    comment="Reads of shared snapshots in which this hospital is owner or recipient",
)
sa.Index("disclosure_at_idx", disclosure.c.at)
sa.Index("disclosure_told_idx", told_block(disclosure))

dead_letter = sa.Table(
    "dead_letter",
    metadata,
    key("event_id", sa.Text(), "channel/block/tx/write of what was refused"),
    key("code", sa.Text(), "Why: a stable code"),
    required("stage", sa.Text(), "relay or projector"),
    required("transaction_id", sa.Text(), "The transaction it stands in"),
    required("object_type", sa.Text(), "Type of the ledger object"),
    optional("emr_id", sa.Text(), "The EMR it is about; null for a hospital's profile"),
    required("stops_partition", sa.Boolean(), "Whether its partition waits for it"),
    optional("partition", sa.Integer(), "That partition of the events topic"),
    required("first_at", Timestamp, "When it was refused first", default="now()"),
    optional("resolved_at", Timestamp, "When it was projected after all; null while it stands"),
    sa.CheckConstraint("stage in ('relay', 'projector')", name="stage"),
    schema=SCHEMA,
    comment="What the ledger says and this hospital does not believe or cannot project; ids and codes only",
)

parked = sa.Table(
    "parked",
    metadata,
    key("subject", sa.Text(), "The EMR, or org:<MSP id> for a hospital's profile"),
    required("event_id", sa.Text(), "The first event that waits: the one that could not be projected"),
    required("code", sa.Text(), "Why: a stable code, also in dead_letter"),
    required("since", Timestamp, "When the first of its events was parked", default="now()"),
    schema=SCHEMA,
    comment="What waits for a correction: its rows stand as they were before event_id, and answers say so",
)

parked_event = sa.Table(
    "parked_event",
    metadata,
    key("subject", sa.Text(), "What waits"),
    key("block", sa.BigInteger(), "Block of the event"),
    key("tx", sa.Integer(), "Transaction in that block, from 0"),
    key("write", sa.Integer(), "Write in that transaction, from 0"),
    required("event_id", sa.Text(), "channel/block/tx/write"),
    required("object_type", sa.Text(), "Type of the ledger object"),
    required("message", sa.LargeBinary(), "The event as it stood on Kafka, content sealed"),
    schema=SCHEMA,
    comment="Events that wait behind the one that could not be projected, in order. Kept here: topics keep 7 days",
)

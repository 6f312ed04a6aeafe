"""Schema care."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "condition",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("version", sa.Integer(), nullable=False, comment="The note"),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place among the note's conditions, from 0"),
        sa.Column(
            "system",
            sa.Text(),
            nullable=True,
            comment="Code system, such as http://snomed.info/sct; null for words alone",
        ),
        sa.Column("code", sa.Text(), nullable=True, comment="Code in that system; null for words alone"),
        sa.Column("display", sa.Text(), nullable=True, comment="The code in words"),
        sa.PrimaryKeyConstraint("emr_id", "version", "position", name="condition_pkey"),
        schema="care",
        comment="Conditions (FHIR Condition) in notes, each with its first coding",
    )
    op.create_index("condition_code_idx", "condition", ["code", "system", "emr_id"], unique=False, schema="care")
    op.create_table(
        "dead_letter",
        sa.Column("event_id", sa.Text(), nullable=False, comment="channel/block/tx/write of what was refused"),
        sa.Column("code", sa.Text(), nullable=False, comment="Why: a stable code"),
        sa.Column("stage", sa.Text(), nullable=False, comment="relay or projector"),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The transaction it stands in"),
        sa.Column("object_type", sa.Text(), nullable=False, comment="Type of the ledger object"),
        sa.Column("emr_id", sa.Text(), nullable=True, comment="The EMR it is about; null for a hospital's profile"),
        sa.Column("stops_partition", sa.Boolean(), nullable=False, comment="Whether its partition waits for it"),
        sa.Column("partition", sa.Integer(), nullable=True, comment="That partition of the events topic"),
        sa.Column(
            "first_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was refused first",
        ),
        sa.Column(
            "resolved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was projected after all; null while it stands",
        ),
        sa.CheckConstraint("stage in ('relay', 'projector')", name="dead_letter_stage_check"),
        sa.PrimaryKeyConstraint("event_id", "code", name="dead_letter_pkey"),
        schema="care",
        comment="What the ledger says and this hospital does not believe or cannot project; ids and codes only",
    )
    op.create_table(
        "disclosure",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The receipt's transaction"),
        sa.Column("owner_msp", sa.Text(), nullable=False, comment="The hospital that owns the EMR"),
        sa.Column("patient_id", sa.Text(), nullable=False, comment="The patient's ledger id at the owner"),
        sa.Column("recipient_msp", sa.Text(), nullable=False, comment="The hospital that read"),
        sa.Column("number", sa.Integer(), nullable=False, comment="Number of the sharing"),
        sa.Column("version", sa.Integer(), nullable=False, comment="EMR version of the snapshot that was read"),
        sa.Column("reader", sa.Text(), nullable=False, comment="Enrolment id of the reader"),
        sa.Column("purpose", sa.Text(), nullable=False, comment="HL7 PurposeOfUse code"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="The transaction's time"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Its block"),
        sa.PrimaryKeyConstraint("emr_id", "transaction_id", name="disclosure_pkey"),
        schema="care",
        comment="Reads of shared snapshots in which this hospital is owner or recipient",
    )
    op.create_index("disclosure_at_idx", "disclosure", ["at"], unique=False, schema="care")
    op.create_table(
        "emr",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("owner_msp", sa.Text(), nullable=False, comment="The hospital that owns it"),
        sa.Column("patient_id", sa.Text(), nullable=False, comment="The patient's ledger id at that hospital"),
        sa.Column("patient_key", sa.Text(), nullable=False, comment="SHA-256 of the patient's public key (hex)"),
        sa.Column("next_patient_key", sa.Text(), nullable=True, comment="The key that replaces it (hex)"),
        sa.Column(
            "next_patient_key_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="From when on the next key counts",
        ),
        sa.Column("version", sa.Integer(), nullable=False, comment="Number of notes"),
        sa.Column("visits", sa.Integer(), nullable=False, comment="Number of notes that are visits"),
        sa.Column(
            "visit_transaction_id", sa.Text(), nullable=True, comment="The transaction that added the last visit"
        ),
        sa.Column("life", sa.Text(), nullable=False, comment="active, erasure-requested or erased"),
        sa.Column("demographics_revision", sa.Integer(), nullable=False, comment="Revision of the demographics"),
        sa.Column("demographics_commitment", sa.Text(), nullable=False, comment="Commitment to the demographics (hex)"),
        sa.Column("demographics_sha256", sa.Text(), nullable=False, comment="SHA-256 of the sealed demographics (hex)"),
        sa.Column(
            "demographics",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The FHIR Patient; null for another hospital's, a placeholder, or after erasure",
        ),
        sa.Column("family_name", sa.Text(), nullable=True, comment="Family name, from the demographics"),
        sa.Column(
            "given_names", sa.Text(), nullable=True, comment="Given names, separated by a space, from the demographics"
        ),
        sa.Column(
            "birth_date",
            sa.Date(),
            nullable=True,
            comment="Date of birth; the first day when only a month or a year is known",
        ),
        sa.Column("sex", sa.Text(), nullable=True, comment="Administrative gender, from the demographics"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="The creating transaction's time"),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The transaction that wrote it last"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Block of that transaction"),
        sa.CheckConstraint("life in ('active', 'erasure-requested', 'erased')", name="emr_life_check"),
        sa.PrimaryKeyConstraint("emr_id", name="emr_pkey"),
        sa.UniqueConstraint("owner_msp", "patient_id", name="emr_owner_msp_patient_id_key"),
        schema="care",
        comment="Every EMR of the channel; content of this hospital's own ones only",
    )
    op.create_index("emr_birth_date_idx", "emr", ["birth_date", "emr_id"], unique=False, schema="care")
    op.create_index(
        "emr_family_name_idx", "emr", [sa.literal_column("lower(family_name)"), "emr_id"], unique=False, schema="care"
    )
    op.create_table(
        "emr_position",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR, or org:<MSP id> for a hospital's profile"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Block of the last write that is in"),
        sa.Column("tx", sa.Integer(), nullable=False, comment="Transaction in that block, from 0"),
        sa.Column("write", sa.Integer(), nullable=False, comment="Write in that transaction, from 0"),
        sa.PrimaryKeyConstraint("emr_id", name="emr_position_pkey"),
        schema="care",
        comment="The last write projected, per EMR: an event at or before it is a repetition and changes nothing",
    )
    op.create_table(
        "ending",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("recipient_msp", sa.Text(), nullable=False, comment="The hospital it was shared with"),
        sa.Column(
            "number",
            sa.Integer(),
            nullable=False,
            comment="Every sharing between the two up to this number has ended; 0: none has",
        ),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Block of the transaction that said so"),
        sa.PrimaryKeyConstraint("emr_id", "recipient_msp", name="ending_pkey"),
        schema="care",
        comment="The largest number that each end~ ever had: a smaller one written later revives nothing",
    )
    op.create_table(
        "generation",
        sa.Column("id", sa.Text(), nullable=False, comment="Part of the name of the projector's consumer group"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the schema was made",
        ),
        sa.PrimaryKeyConstraint("id", name="generation_pkey"),
        schema="care",
        comment="One row: which filling of the schema this is. A new one is read into from the topics' start",
    )
    op.create_table(
        "medication",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("version", sa.Integer(), nullable=False, comment="The note"),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place among the note's medications, from 0"),
        sa.Column(
            "system", sa.Text(), nullable=True, comment="Code system, such as that of RxNorm; null for words alone"
        ),
        sa.Column("code", sa.Text(), nullable=True, comment="Code in that system; null for words alone"),
        sa.Column("display", sa.Text(), nullable=True, comment="The code in words"),
        sa.PrimaryKeyConstraint("emr_id", "version", "position", name="medication_pkey"),
        schema="care",
        comment="Medications (FHIR MedicationRequest) in notes, each with its first coding",
    )
    op.create_index("medication_code_idx", "medication", ["code", "system", "emr_id"], unique=False, schema="care")
    op.create_table(
        "note",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("version", sa.Integer(), nullable=False, comment="Place in the EMR, from 1"),
        sa.Column("note_id", sa.Text(), nullable=False, comment="The note's id, by which a repetition is recognized"),
        sa.Column("is_visit", sa.Boolean(), nullable=False, comment="Whether the note is a visit, as the ledger says"),
        sa.Column("author", sa.Text(), nullable=False, comment="Enrolment id of the physician"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The transaction's time; a visit's own time is period_start",
        ),
        sa.Column("commitment", sa.Text(), nullable=False, comment="Commitment to the content (hex)"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="SHA-256 of the sealed content (hex)"),
        sa.Column(
            "kind", sa.Text(), nullable=True, comment="encounter, background, amendment or text; null for a placeholder"
        ),
        sa.Column("amends", sa.Text(), nullable=True, comment="Id of the note that an amendment amends"),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=True, comment="Start of the encounter"),
        sa.Column(
            "month",
            sa.Date(),
            nullable=True,
            comment="First day of the encounter's month at its place, else of the ledger's in UTC",
        ),
        sa.Column("encounter_class", sa.Text(), nullable=True, comment="Code of the encounter's class, such as AMB"),
        sa.Column("encounter_type", sa.Text(), nullable=True, comment="Code of the encounter's first type"),
        sa.Column("encounter_type_display", sa.Text(), nullable=True, comment="That type in words"),
        sa.Column(
            "content",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The canonical note; null for a placeholder or after erasure",
        ),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The transaction that added it"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Its block"),
        sa.PrimaryKeyConstraint("emr_id", "version", name="note_pkey"),
        sa.UniqueConstraint("emr_id", "note_id", name="note_emr_id_note_id_key"),
        schema="care",
        comment="Notes of this hospital's own EMRs. A row without content is a placeholder, unless the EMR is erased",
    )
    op.create_index("note_month_idx", "note", ["month", "emr_id"], unique=False, schema="care")
    op.create_table(
        "organization",
        sa.Column("msp_id", sa.Text(), nullable=False, comment="The hospital's MSP id"),
        sa.Column("name", sa.Text(), nullable=False, comment="The hospital's name"),
        sa.Column(
            "sealing_keys",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Public sealing keys as on the ledger: a list of {id, keyset}",
        ),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The transaction that wrote the profile"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Its block"),
        sa.PrimaryKeyConstraint("msp_id", name="organization_pkey"),
        schema="care",
        comment="The hospitals of the channel",
    )
    op.create_table(
        "position",
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of the events topic"),
        sa.Column(
            "block",
            sa.BigInteger(),
            nullable=False,
            comment="Every event of this partition up to this block is in; -1: none yet",
        ),
        sa.Column(
            "marked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Time of that block's last transaction on the ledger",
        ),
        sa.Column(
            "projected_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was written",
        ),
        sa.PrimaryKeyConstraint("partition", name="position_pkey"),
        schema="care",
        comment="How far each partition is. The least block over the partitions is as_of_block",
    )
    op.create_table(
        "pseudonym",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("period", sa.Integer(), nullable=False, comment="Calendar year in which the pseudonym stands"),
        sa.Column(
            "pseudonym",
            sa.Text(),
            nullable=False,
            comment="HMAC of EMR and period under the hospital's pseudonym key, first 128 bits (hex)",
        ),
        sa.PrimaryKeyConstraint("emr_id", "period", name="pseudonym_pkey"),
        sa.UniqueConstraint("pseudonym", name="pseudonym_pseudonym_key"),
        schema="care",
        comment="By what analysts may tell patients apart within a year and not beyond; deleted at erasure",
    )
    op.create_table(
        "sharing",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR"),
        sa.Column("recipient_msp", sa.Text(), nullable=False, comment="The hospital it is shared with"),
        sa.Column("number", sa.Integer(), nullable=False, comment="Number of the sharing between the two, from 1"),
        sa.Column("owner_msp", sa.Text(), nullable=False, comment="The hospital that owns the EMR"),
        sa.Column("patient_id", sa.Text(), nullable=False, comment="The patient's ledger id at the owner"),
        sa.Column(
            "requested_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the recipient asked; null when nobody asked",
        ),
        sa.Column("requested_by", sa.Text(), nullable=True, comment="Enrolment id of who asked"),
        sa.Column("request_purpose", sa.Text(), nullable=True, comment="HL7 PurposeOfUse code of the request"),
        sa.Column(
            "owner_approved_at", sa.DateTime(timezone=True), nullable=True, comment="When the owner approved last"
        ),
        sa.Column("owner_approved_by", sa.Text(), nullable=True, comment="Enrolment id of who approved for the owner"),
        sa.Column("owner_approved_version", sa.Integer(), nullable=True, comment="EMR version that the owner approved"),
        sa.Column(
            "recipient_key_id",
            sa.Text(),
            nullable=True,
            comment="Sealing key of the recipient that the owner's approval names",
        ),
        sa.Column(
            "patient_approved_at", sa.DateTime(timezone=True), nullable=True, comment="When the patient approved last"
        ),
        sa.Column("patient_approved_by", sa.Text(), nullable=True, comment="Enrolment id of the patient"),
        sa.Column(
            "patient_approved_version", sa.Integer(), nullable=True, comment="EMR version that the patient approved"
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the patient's approval ends by itself; null when never",
        ),
        sa.Column(
            "snapshot_at", sa.DateTime(timezone=True), nullable=True, comment="When the current snapshot was shared"
        ),
        sa.Column("snapshot_version", sa.Integer(), nullable=True, comment="EMR version that the snapshot holds"),
        sa.Column("snapshot_sha256", sa.Text(), nullable=True, comment="SHA-256 of the sealed snapshot (hex)"),
        sa.Column(
            "snapshot_key_id", sa.Text(), nullable=True, comment="Sealing key of the recipient that opens the snapshot"
        ),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the sharing was ended; null while it was not",
        ),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="Enrolment id of who ended it"),
        sa.Column("ended_why", sa.Text(), nullable=True, comment="declined, withdrawn, removed-by-patient or expired"),
        sa.Column(
            "access",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The ledger's access~ value as written last for this number",
        ),
        sa.Column(
            "ending",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The ledger's end~ value that ended this number",
        ),
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="The transaction that changed it last"),
        sa.Column("block", sa.BigInteger(), nullable=False, comment="Its block"),
        sa.PrimaryKeyConstraint("emr_id", "recipient_msp", "number", name="sharing_pkey"),
        schema="care",
        comment="Sharings in which this hospital is owner or recipient; the state follows from row and time",
    )
    op.create_index("sharing_owner_msp_idx", "sharing", ["owner_msp", "emr_id"], unique=False, schema="care")
    op.create_index("sharing_patient_id_idx", "sharing", ["patient_id"], unique=False, schema="care")
    op.create_index("sharing_recipient_msp_idx", "sharing", ["recipient_msp", "emr_id"], unique=False, schema="care")
    op.execute("insert into care.generation (id) values (left(md5(gen_random_uuid()::text), 8))")

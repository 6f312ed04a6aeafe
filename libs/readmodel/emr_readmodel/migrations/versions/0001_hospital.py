"""Schema hospital, and the schemas themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

SCHEMAS = {
    "hospital": "What the ledger does not have",
    "care": "What derives from the ledger, for the services",
    "analytics": "De-identified rows for the hospital and its analysts",
}


def upgrade() -> None:
    for schema, comment in SCHEMAS.items():
        op.execute(f"create schema if not exists {schema}")
        op.execute(f"comment on schema {schema} is '{comment}'")
    op.create_table(
        "access_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of writing"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the read was about to be answered",
        ),
        sa.Column("reader", sa.Text(), nullable=False, comment="Enrolment id of the reader"),
        sa.Column("role", sa.Text(), nullable=False, comment="The reader's role"),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR that was read"),
        sa.Column("owner_msp", sa.Text(), nullable=False, comment="The hospital that owns the EMR"),
        sa.Column("action", sa.Text(), nullable=False, comment="What was read: the route's operation"),
        sa.Column(
            "note_version",
            sa.Integer(),
            nullable=True,
            comment="The note that was read; null when it was more than one",
        ),
        sa.Column("purpose", sa.Text(), nullable=True, comment="HL7 PurposeOfUse code, for another hospital's EMR"),
        sa.Column("transaction_id", sa.Text(), nullable=True, comment="The disclosure's receipt transaction"),
        sa.Column("request_id", sa.Text(), nullable=False, comment="The HTTP request's id, as in the service's log"),
        sa.PrimaryKeyConstraint("id", name="access_log_pkey"),
        schema="hospital",
        comment="Every read of a record, own or shared, written before it is answered",
    )
    op.create_index("access_log_emr_id_at_idx", "access_log", ["emr_id", "at"], unique=False, schema="hospital")
    op.create_table(
        "emr_key",
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR whose notes and demographics the key opens"),
        sa.Column(
            "wrapped_keyset",
            sa.LargeBinary(),
            nullable=False,
            comment="The EMR's keyset, encrypted by the hospital's wrapping keyset",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the key was made, before the EMR's creation",
        ),
        sa.PrimaryKeyConstraint("emr_id", name="emr_key_pkey"),
        schema="hospital",
        comment="One random key per own EMR, in no other place. Erasure deletes the row",
    )
    op.create_table(
        "idempotency",
        sa.Column("caller", sa.Text(), nullable=False, comment="Enrolment id of the caller"),
        sa.Column("key", sa.Text(), nullable=False, comment="The request's Idempotency-Key"),
        sa.Column("route", sa.Text(), nullable=False, comment="Method and route template"),
        sa.Column(
            "request_sha256", sa.LargeBinary(), nullable=False, comment="SHA-256 of the request's method, path and body"
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="running or done"),
        sa.Column("status", sa.Integer(), nullable=True, comment="HTTP status of the answer"),
        sa.Column(
            "answer",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The answer's ids, versions and blocks; never content",
        ),
        sa.Column("transaction_id", sa.Text(), nullable=True, comment="The transaction that the request led to"),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the request was first seen",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When the answer was known"),
        sa.CheckConstraint("state in ('running', 'done')", name="idempotency_state_check"),
        sa.PrimaryKeyConstraint("caller", "key", name="idempotency_pkey"),
        schema="hospital",
        comment="What became of writing requests, so that a repeated one is answered and not repeated",
    )
    op.create_index("idempotency_started_at_idx", "idempotency", ["started_at"], unique=False, schema="hospital")
    op.create_table(
        "import_job",
        sa.Column("import_id", sa.Text(), nullable=False, comment="The import, 32 hexadecimal digits"),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The EMR that the notes go into"),
        sa.Column("caller", sa.Text(), nullable=False, comment="Enrolment id of the physician"),
        sa.Column("state", sa.Text(), nullable=False, comment="queued, running, done or failed"),
        sa.Column(
            "sealed_bundle",
            sa.LargeBinary(),
            nullable=True,
            comment="The bundle under the EMR's key, until the job has ended",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the import was accepted",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When the last note was settled"),
        sa.CheckConstraint("state in ('queued', 'running', 'done', 'failed')", name="import_job_state_check"),
        sa.PrimaryKeyConstraint("import_id", name="import_job_pkey"),
        schema="hospital",
        comment="Bundles being turned into notes",
    )
    op.create_index(
        "import_job_created_at_idx",
        "import_job",
        ["created_at"],
        unique=False,
        schema="hospital",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "patient_identifier",
        sa.Column(
            "identifier_hmac",
            sa.LargeBinary(),
            nullable=False,
            comment="HMAC of the normalized identifier under the hospital's own key",
        ),
        sa.Column("patient_id", sa.Text(), nullable=False, comment="The ledger id given at admission"),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The patient's EMR at this hospital"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the patient was admitted",
        ),
        sa.PrimaryKeyConstraint("identifier_hmac", name="patient_identifier_pkey"),
        sa.UniqueConstraint("patient_id", name="patient_identifier_patient_id_key"),
        schema="hospital",
        comment="By what admission recognizes a patient; deleted at erasure",
    )
    op.create_table(
        "transaction",
        sa.Column("transaction_id", sa.Text(), nullable=False, comment="Fabric transaction id"),
        sa.Column("caller", sa.Text(), nullable=False, comment="Enrolment id of who signed it"),
        sa.Column("function", sa.Text(), nullable=False, comment="The chaincode function"),
        sa.Column("state", sa.Text(), nullable=False, comment="pending, committed or invalid"),
        sa.Column("validation_code", sa.Text(), nullable=True, comment="Fabric's validation code, once settled"),
        sa.Column("block", sa.BigInteger(), nullable=True, comment="Number of the block it stands in"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was about to be submitted",
        ),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True, comment="When its outcome was known"),
        sa.CheckConstraint("state in ('pending', 'committed', 'invalid')", name="transaction_state_check"),
        sa.PrimaryKeyConstraint("transaction_id", name="transaction_pkey"),
        schema="hospital",
        comment="Transactions submitted by this hospital's services",
    )
    op.create_index(
        "transaction_created_at_idx",
        "transaction",
        ["created_at"],
        unique=False,
        schema="hospital",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "wallet",
        sa.Column("issuer", sa.Text(), nullable=False, comment="Token issuer (iss) that vouches for the person"),
        sa.Column("subject", sa.Text(), nullable=False, comment="The person's subject (sub) at that issuer"),
        sa.Column(
            "enrolment_id",
            sa.Text(),
            nullable=False,
            comment="Opaque enrolment id: the common name of the person's Fabric certificate",
        ),
        sa.Column(
            "role",
            sa.Text(),
            nullable=False,
            comment="Certificate attribute emr.role, copied when the person was enrolled",
        ),
        sa.Column("patient_id", sa.Text(), nullable=True, comment="A patient's ledger id; null for staff"),
        sa.Column("emr_id", sa.Text(), nullable=True, comment="A patient's EMR; null for staff"),
        sa.Column("certificate_pem", sa.Text(), nullable=False, comment="The Fabric certificate, PEM"),
        sa.Column(
            "sealed_private_key",
            sa.LargeBinary(),
            nullable=True,
            comment="Private key, sealed by the wallet keyset; null if its holder keeps it",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the identity was stored",
        ),
        sa.Column(
            "revoked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the certificate was revoked; null while it counts",
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name="wallet_pkey"),
        sa.UniqueConstraint("enrolment_id", name="wallet_enrolment_id_key"),
        schema="hospital",
        comment="The Fabric identities of staff and patients, by token subject",
    )
    op.create_index(
        "wallet_patient_id_idx",
        "wallet",
        ["patient_id"],
        unique=False,
        schema="hospital",
        postgresql_where=sa.text("patient_id IS NOT NULL"),
    )
    op.create_table(
        "import_result",
        sa.Column("import_id", sa.Text(), nullable=False, comment="The import"),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the import, from 0"),
        sa.Column("note_id", sa.Text(), nullable=True, comment="The note's id"),
        sa.Column(
            "resource",
            sa.Text(),
            nullable=True,
            comment="Type and place in the bundle of a resource that became no note",
        ),
        sa.Column("version", sa.Integer(), nullable=True, comment="The note's version in the EMR, once committed"),
        sa.Column("code", sa.Text(), nullable=True, comment="Why it became no note: a stable error code"),
        sa.Column("transaction_id", sa.Text(), nullable=True, comment="The note's transaction"),
        sa.Column("block", sa.BigInteger(), nullable=True, comment="The block of that transaction"),
        sa.ForeignKeyConstraint(
            ["import_id"], ["hospital.import_job.import_id"], name="import_result_import_id_fkey", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "position", name="import_result_pkey"),
        schema="hospital",
        comment="What became of each note of an import",
    )

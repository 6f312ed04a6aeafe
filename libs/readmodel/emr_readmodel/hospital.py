"""Schema ``hospital``: what the ledger does not have and no rebuild touches. A backup must hold all of it."""

from __future__ import annotations

import sqlalchemy as sa

from emr_readmodel.columns import Json, Timestamp, key, metadata, optional, required

SCHEMA = "hospital"

wallet = sa.Table(
    "wallet",
    metadata,
    key("issuer", sa.Text(), "Token issuer (iss) that vouches for the person"),
    key("subject", sa.Text(), "The person's subject (sub) at that issuer"),
    required("enrolment_id", sa.Text(), "Opaque enrolment id: the common name of the person's Fabric certificate"),
    required("role", sa.Text(), "Certificate attribute emr.role, copied when the person was enrolled"),
    optional("patient_id", sa.Text(), "A patient's ledger id; null for staff"),
    optional("emr_id", sa.Text(), "A patient's EMR; null for staff"),
    required("certificate_pem", sa.Text(), "The Fabric certificate, PEM"),
    optional(
        "sealed_private_key",
        sa.LargeBinary(),
        "Private key, sealed by the wallet keyset; null if its holder keeps it",
    ),
    required("created_at", Timestamp, "When the identity was stored", default="now()"),
    optional("revoked_at", Timestamp, "When the certificate was revoked; null while it counts"),
    sa.UniqueConstraint("enrolment_id"),
    schema=SCHEMA,
    comment="The Fabric identities of staff and patients, by token subject",
)
sa.Index("wallet_patient_id_idx", wallet.c.patient_id, postgresql_where=wallet.c.patient_id.is_not(None))

patient_key = sa.Table(
    "patient_key",
    metadata,
    key("enrolment_id", sa.Text(), "Opaque enrolment id: the common name of the certificate"),
    required("emr_id", sa.Text(), "The patient's EMR"),
    required("certificate_pem", sa.Text(), "The Fabric certificate of the key, PEM"),
    optional(
        "sealed_private_key",
        sa.LargeBinary(),
        "Private key, sealed by the wallet keyset; null if its holder keeps it",
    ),
    required("created_at", Timestamp, "When it was certified, before it was bound", default="now()"),
    optional("counts_from", Timestamp, "From when the ledger takes it for the patient's; null until that is known"),
    schema=SCHEMA,
    comment="Patients' keys after the wallet's: the latest that counts stands for it",
)
sa.Index("patient_key_emr_id_idx", patient_key.c.emr_id)

emr_key = sa.Table(
    "emr_key",
    metadata,
    key("emr_id", sa.Text(), "The EMR whose notes and demographics the key opens"),
    required("wrapped_keyset", sa.LargeBinary(), "The EMR's keyset, encrypted by the hospital's wrapping keyset"),
    required("created_at", Timestamp, "When the key was made, before the EMR's creation", default="now()"),
    schema=SCHEMA,
    comment="One random key per own EMR, in no other place. Erasure deletes the row",
)

patient_identifier = sa.Table(
    "patient_identifier",
    metadata,
    key("identifier_hmac", sa.LargeBinary(), "HMAC of the normalized identifier under the hospital's own key"),
    required("patient_id", sa.Text(), "The ledger id given at admission"),
    required("emr_id", sa.Text(), "The patient's EMR at this hospital"),
    required("created_at", Timestamp, "When the patient was admitted", default="now()"),
    sa.UniqueConstraint("patient_id"),
    schema=SCHEMA,
    comment="By what admission recognizes a patient; deleted at erasure",
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    key("caller", sa.Text(), "Enrolment id of the caller"),
    key("key", sa.Text(), "The request's Idempotency-Key"),
    required("route", sa.Text(), "Method and route template"),
    required("request_sha256", sa.LargeBinary(), "SHA-256 of the request's method, path and body"),
    required("state", sa.Text(), "running or done"),
    optional("status", sa.Integer(), "HTTP status of the answer"),
    optional("answer", Json, "The answer's ids, versions and blocks; never content"),
    optional("transaction_id", sa.Text(), "The transaction that the request led to"),
    required("started_at", Timestamp, "When the request was first seen", default="now()"),
    optional("finished_at", Timestamp, "When the answer was known"),
    sa.CheckConstraint("state in ('running', 'done')", name="state"),
    schema=SCHEMA,
    comment="What became of writing requests, so that a repeated one is answered and not repeated",
)
sa.Index("idempotency_started_at_idx", idempotency.c.started_at)

transaction = sa.Table(
    "transaction",
    metadata,
    key("transaction_id", sa.Text(), "Fabric transaction id"),
    required("caller", sa.Text(), "Enrolment id of who signed it"),
    required("function", sa.Text(), "The chaincode function"),
    required("state", sa.Text(), "pending, committed or invalid"),
    optional("validation_code", sa.Text(), "Fabric's validation code, once settled"),
    optional("block", sa.BigInteger(), "Number of the block it stands in"),
    required("created_at", Timestamp, "When it was about to be submitted", default="now()"),
    optional("settled_at", Timestamp, "When its outcome was known"),
    optional(
        "traceparent", sa.Text(), "W3C trace context of the request that it belongs to; null while traces are off"
    ),
    sa.CheckConstraint("state in ('pending', 'committed', 'invalid')", name="state"),
    schema=SCHEMA,
    comment="Transactions submitted by this hospital's services",
)
sa.Index("transaction_created_at_idx", transaction.c.created_at, postgresql_where=transaction.c.state == "pending")

preparation = sa.Table(
    "preparation",
    metadata,
    key("transaction_id", sa.Text(), "Fabric transaction id, which the proposal fixes"),
    required("caller", sa.Text(), "Enrolment id of who is to sign"),
    required("function", sa.Text(), "The chaincode function"),
    required("ids", Json, "What the answer will carry: ids and versions; never content"),
    required("proposal", sa.LargeBinary(), "The call without a signature (gateway.ProposedTransaction)"),
    optional("endorsing_at", Timestamp, "When somebody last began to have it endorsed; null while nobody does"),
    optional("transaction", sa.LargeBinary(), "The endorsed call without a signature (gateway.PreparedTransaction)"),
    required("prepared_at", Timestamp, "When it was made; further steps have their time from here", default="now()"),
    optional("submitted_at", Timestamp, "When it was last about to be handed in; null before"),
    optional("answer", Json, "The answer to its submission once committed: ids, versions and blocks"),
    schema=SCHEMA,
    comment="Calls of people who keep their own key, between the steps that they sign; kept for a day",
)
sa.Index("preparation_prepared_at_idx", preparation.c.prepared_at)

access_log = sa.Table(
    "access_log",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True, comment="Order of writing"),
    required("at", Timestamp, "When the read was about to be answered", default="now()"),
    required("reader", sa.Text(), "Enrolment id of the reader"),
    required("role", sa.Text(), "The reader's role"),
    required("emr_id", sa.Text(), "The EMR that was read"),
    required("owner_msp", sa.Text(), "The hospital that owns the EMR"),
    required("action", sa.Text(), "What was read: the route's operation"),
    optional("note_version", sa.Integer(), "The note that was read; null when it was more than one"),
    optional("purpose", sa.Text(), "HL7 PurposeOfUse code, for another hospital's EMR"),
    optional("transaction_id", sa.Text(), "The disclosure's receipt transaction"),
    required("request_id", sa.Text(), "The HTTP request's id, as in the service's log"),
    schema=SCHEMA,
    comment="Every read of a record, own or shared, written before it is answered",
)
sa.Index("access_log_emr_id_at_idx", access_log.c.emr_id, access_log.c.at)

queued_note = sa.Table(
    "queued_note",
    metadata,
    sa.Column("position", sa.BigInteger(), sa.Identity(always=True), primary_key=True, comment="Order of acceptance"),
    required("ticket", sa.Text(), "What its author asks by: 64 hexadecimal digits, no Fabric transaction id"),
    required("emr_id", sa.Text(), "The EMR that it goes into"),
    required("caller", sa.Text(), "Enrolment id of the physician"),
    required("note_id", sa.Text(), "The note's id"),
    required("kind", sa.Text(), "The note's kind: encounter, amendment or text"),
    optional("expected_version", sa.BigInteger(), "The version that its author meant; null for any"),
    optional("sealed_note", sa.LargeBinary(), "The note under the EMR's key, until it has ended"),
    required("state", sa.Text(), "queued, submitted, committed or refused"),
    optional("transaction_id", sa.Text(), "The transaction that was last handed in for it"),
    optional("version", sa.BigInteger(), "The note's version in the EMR, once committed"),
    optional("block", sa.BigInteger(), "The block of its transaction, once committed"),
    optional("code", sa.Text(), "Why it was refused: a stable error code"),
    required("created_at", Timestamp, "When it was accepted", default="now()"),
    optional("finished_at", Timestamp, "When it was committed or refused"),
    sa.UniqueConstraint("ticket"),
    sa.CheckConstraint("state in ('queued', 'submitted', 'committed', 'refused')", name="state"),
    schema=SCHEMA,
    comment="Notes that wait for every hospital to be there, in order for each EMR",
)
sa.Index(
    "queued_note_emr_id_idx",
    queued_note.c.emr_id,
    queued_note.c.position,
    postgresql_where=queued_note.c.finished_at.is_(None),
)

webhook = sa.Table(
    "webhook",
    metadata,
    key("webhook_id", sa.Text(), "What its administrator calls it"),
    required("url", sa.Text(), "Where events are posted to, https"),
    required("kinds", Json, "Which events: sharing, disclosure"),
    required("revision", sa.Text(), "Changes whenever an administrator changes the webhook"),
    required("position", sa.BigInteger(), "Up to this block everything was delivered"),
    required("delivered", Json, "Ids of the events of the next block that were delivered", default="'[]'"),
    required("failures", sa.Integer(), "Attempts that failed since the last that did not", default="0"),
    optional("failing_since", Timestamp, "When the first of these was; null when the last attempt went well"),
    optional("last_failure", sa.Text(), "A code for what went wrong; nothing of what was answered"),
    optional("not_before", Timestamp, "When the next attempt is due; null for now"),
    optional("delivered_at", Timestamp, "When an event was last delivered"),
    optional("disabled_at", Timestamp, "When it was given up; null while it is in use"),
    required("created_by", sa.Text(), "Enrolment id of the administrator who made it"),
    required("created_at", Timestamp, "When it was made", default="now()"),
    schema=SCHEMA,
    comment="Where this hospital's own systems are told what changes between hospitals",
)

webhook_secret = sa.Table(
    "webhook_secret",
    metadata,
    key("secret_id", sa.Text(), "Which secret; its seal is bound to it"),
    sa.Column(
        "webhook_id",
        sa.Text(),
        sa.ForeignKey("hospital.webhook.webhook_id", ondelete="CASCADE"),
        nullable=False,
        comment="The webhook whose deliveries it signs",
    ),
    required("sealed_secret", sa.LargeBinary(), "The secret, sealed by the wallet keyset"),
    required("created_at", Timestamp, "When it was made", default="now()"),
    optional("replaced_at", Timestamp, "When a newer one took its place; it signs for a day more"),
    schema=SCHEMA,
    comment="Secrets by which webhooks' deliveries are signed",
)
sa.Index("webhook_secret_webhook_id_idx", webhook_secret.c.webhook_id)

import_job = sa.Table(
    "import_job",
    metadata,
    key("import_id", sa.Text(), "The import, 32 hexadecimal digits"),
    required("emr_id", sa.Text(), "The EMR that the notes go into"),
    required("caller", sa.Text(), "Enrolment id of the physician"),
    required("state", sa.Text(), "queued, running, done or failed"),
    optional("sealed_bundle", sa.LargeBinary(), "The bundle under the EMR's key, until the job has ended"),
    required("created_at", Timestamp, "When the import was accepted", default="now()"),
    optional("finished_at", Timestamp, "When the last note was settled"),
    sa.CheckConstraint("state in ('queued', 'running', 'done', 'failed')", name="state"),
    schema=SCHEMA,
    comment="Bundles being turned into notes",
)
sa.Index("import_job_created_at_idx", import_job.c.created_at, postgresql_where=import_job.c.finished_at.is_(None))

import_result = sa.Table(
    "import_result",
    metadata,
    sa.Column(
        "import_id",
        sa.Text(),
        sa.ForeignKey("hospital.import_job.import_id", ondelete="CASCADE"),
        primary_key=True,
        comment="The import",
    ),
    key("position", sa.Integer(), "Place in the import, from 0"),
    optional("note_id", sa.Text(), "The note's id"),
    optional("resource", sa.Text(), "Type and place in the bundle of a resource that became no note"),
    optional("version", sa.Integer(), "The note's version in the EMR, once committed"),
    optional("code", sa.Text(), "Why it became no note: a stable error code"),
    optional("transaction_id", sa.Text(), "The note's transaction"),
    optional("block", sa.BigInteger(), "The block of that transaction"),
    schema=SCHEMA,
    comment="What became of each note of an import",
)

release = sa.Table(
    "release",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True, comment="Order of the releases"),
    required("at", Timestamp, "When the published numbers were refreshed", default="now()"),
    required("as_of_block", sa.BigInteger(), "Up to which block of the ledger the rows were that it was made of"),
    schema=SCHEMA,
    comment="Each refresh of the published numbers",
)

release_cell = sa.Table(
    "release_cell",
    metadata,
    sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True, comment="Order of writing"),
    sa.Column(
        "release_id", sa.BigInteger(), sa.ForeignKey("hospital.release.id"), nullable=False, comment="The release"
    ),
    required("measure", sa.Text(), "What is counted: visits, patients, conditions, medications or disclosures"),
    required("year", sa.Integer(), "Calendar year"),
    optional("month", sa.Integer(), "Month, 1 to 12; null when given up or not of the measure"),
    optional("encounter_class", sa.Text(), "Code of the encounter's class; null when given up or not of the measure"),
    optional("encounter_type", sa.Text(), "Code of the encounter's first type; null as for the class"),
    optional("age_band", sa.Text(), "Age in bands of ten years; null when given up or not of the measure"),
    optional("sex", sa.Text(), "Administrative gender; null when given up or not of the measure"),
    optional("system", sa.Text(), "Code system of a condition or medication; null for other measures"),
    optional("code", sa.Text(), "Code of a condition or medication; null for other measures"),
    optional("purpose", sa.Text(), "HL7 PurposeOfUse code of a disclosure; null when given up"),
    optional("display", sa.Text(), "The code in words, if as many patients' notes as a cell needs say it so"),
    required("number", sa.Integer(), "How many facts were added to the cell, rounded to 5; 15 or more"),
    sa.CheckConstraint("number >= 15 and number % 5 = 0", name="number"),
    schema=SCHEMA,
    comment="What each release added to the published numbers: facts of 11 patients or more at a time. Never changed",
)
sa.Index("release_cell_measure_idx", release_cell.c.measure, release_cell.c.year)

released_fact = sa.Table(
    "released_fact",
    metadata,
    key("measure", sa.Text(), "In which measure the fact is counted"),
    key("emr_id", sa.Text(), "The EMR it is about"),
    key("ref", sa.Text(), "Where it stands: a note's version, and its place in the note, or a transaction"),
    schema=SCHEMA,
    comment="Facts that the published numbers count already; deleted at erasure, which the numbers outlive",
)

index_job = sa.Table(
    "index_job",
    metadata,
    key("job_id", sa.Text(), "The job, 32 hexadecimal digits"),
    required("kind", sa.Text(), "replay, rebuild or verification"),
    required("argument", Json, "What was asked for: ids and switches"),
    required("requested_by", sa.Text(), "Enrolment id of the administrator"),
    required("state", sa.Text(), "queued, running, done or failed", default="'queued'"),
    optional("progress", Json, "How far it is: blocks and numbers"),
    optional("result", Json, "What came of it: ids, numbers and codes"),
    optional("code", sa.Text(), "Why it failed: a stable code"),
    required("created_at", Timestamp, "When it was asked for", default="now()"),
    optional("started_at", Timestamp, "When it was first begun"),
    optional("finished_at", Timestamp, "When it ended"),
    sa.CheckConstraint("kind in ('replay', 'rebuild', 'verification')", name="kind"),
    sa.CheckConstraint("state in ('queued', 'running', 'done', 'failed')", name="state"),
    schema=SCHEMA,
    comment="What administrators asked of the indexer",
)
sa.Index("index_job_created_at_idx", index_job.c.created_at)

"""People who keep their own key: their calls between the steps that they sign; and patients' next keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "preparation",
        sa.Column(
            "transaction_id", sa.Text(), nullable=False, comment="Fabric transaction id, which the proposal fixes"
        ),
        sa.Column("caller", sa.Text(), nullable=False, comment="Enrolment id of who is to sign"),
        sa.Column("function", sa.Text(), nullable=False, comment="The chaincode function"),
        sa.Column(
            "ids",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="What the answer will carry: ids and versions; never content",
        ),
        sa.Column(
            "proposal",
            sa.LargeBinary(),
            nullable=False,
            comment="The call without a signature (gateway.ProposedTransaction)",
        ),
        sa.Column(
            "transaction",
            sa.LargeBinary(),
            nullable=True,
            comment="The endorsed call without a signature (gateway.PreparedTransaction)",
        ),
        sa.Column(
            "prepared_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was made; further steps have their time from here",
        ),
        sa.Column(
            "endorsing_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When somebody last began to have it endorsed; null while nobody does",
        ),
        sa.Column(
            "submitted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was last about to be handed in; null before",
        ),
        sa.Column(
            "answer",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The answer to its submission once committed: ids, versions and blocks",
        ),
        sa.PrimaryKeyConstraint("transaction_id", name="preparation_pkey"),
        schema="hospital",
        comment="Calls of people who keep their own key, between the steps that they sign; kept for a day",
    )
    op.create_index("preparation_prepared_at_idx", "preparation", ["prepared_at"], unique=False, schema="hospital")
    op.create_table(
        "patient_key",
        sa.Column(
            "enrolment_id", sa.Text(), nullable=False, comment="Opaque enrolment id: the common name of the certificate"
        ),
        sa.Column("emr_id", sa.Text(), nullable=False, comment="The patient's EMR"),
        sa.Column("certificate_pem", sa.Text(), nullable=False, comment="The Fabric certificate of the key, PEM"),
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
            comment="When it was certified, before it was bound",
        ),
        sa.Column(
            "counts_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="From when the ledger takes it for the patient's; null until that is known",
        ),
        sa.PrimaryKeyConstraint("enrolment_id", name="patient_key_pkey"),
        schema="hospital",
        comment="Patients' keys after the wallet's: the latest that counts stands for it",
    )
    op.create_index("patient_key_emr_id_idx", "patient_key", ["emr_id"], unique=False, schema="hospital")

"""Certificates by serial, tokens for several devices, and machines that ask without a token."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("bulktoken", "bulkuse", "certificate", "enrolmentrequest")


def upgrade() -> None:
    """Add the tables, and the certificates that devices hold now."""
    op.add_column("enrolmenttoken", sa.Column("revoked_at", sa.Integer(), nullable=True))
    op.add_column(
        "enrolmenttoken", sa.Column("again", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    _create_bulk()
    _create_request()
    _create_certificate()
    op.execute(
        "INSERT INTO certificate (device, serial, expires_at, revoked_at) "
        "SELECT id, certificate_serial, certificate_expires, revoked_at FROM device"
    )


def downgrade() -> None:
    """Remove them."""
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("enrolmenttoken", "again")
    op.drop_column("enrolmenttoken", "revoked_at")


def _create_bulk() -> None:
    op.create_table(
        "bulktoken",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "bulkuse",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "key"),
    )


def _create_request() -> None:
    op.create_table(
        "enrolmentrequest",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("asked_at", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_enrolmentrequest_code", "enrolmentrequest", ["code"], unique=True)
    op.create_index("ix_enrolmentrequest_address", "enrolmentrequest", ["address"], unique=False)
    op.create_index("ix_enrolmentrequest_asked_at", "enrolmentrequest", ["asked_at"], unique=False)


def _create_certificate() -> None:
    op.create_table(
        "certificate",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("device", "serial"),
    )
    op.create_index("ix_certificate_revoked_at", "certificate", ["revoked_at"], unique=False)

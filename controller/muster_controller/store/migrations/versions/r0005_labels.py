"""Labelled predictions: what became known of each, counts per device and window, and what is watched."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; they fill with the labels that are pushed."""
    op.create_table(
        "label",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("push", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("correction", sa.Boolean(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("received_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("label_version", "label", ["digest", "id"], unique=False)
    op.create_index("label_model_end", "label", ["model", "end"], unique=False)
    op.create_index("label_end", "label", ["end"], unique=False)
    op.create_index("ix_label_key", "label", ["key"], unique=False)
    op.create_table(
        "labelled",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_labelled_at", "labelled", ["at"], unique=False)
    op.create_table(
        "labelstate",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("upto", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def downgrade() -> None:
    """Remove them."""
    for name in ("labelstate", "labelled", "label"):
        op.drop_table(name)

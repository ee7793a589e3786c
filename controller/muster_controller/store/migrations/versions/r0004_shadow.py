"""What candidates answered in shadow, and the order to ask them so."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, which fills with the windows that come, and the column of the order."""
    op.add_column("assignment", sa.Column("shadow", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "shadow",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("agreed", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.Integer(), nullable=False),
        sa.Column("difference", sa.Float(), nullable=False),
        sa.Column("latency", sa.JSON(), nullable=False),
        sa.Column("beside_calls", sa.Integer(), nullable=False),
        sa.Column("beside_errors", sa.Integer(), nullable=False),
        sa.Column("beside_latency", sa.JSON(), nullable=False),
        sa.Column("since", sa.Integer(), nullable=False),
        sa.Column("until", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "digest", "candidate"),
    )
    op.create_index("ix_shadow_candidate", "shadow", ["candidate"], unique=False)


def downgrade() -> None:
    """Remove them."""
    op.drop_table("shadow")
    op.drop_column("assignment", "shadow")

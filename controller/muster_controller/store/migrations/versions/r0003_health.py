"""How a device says that it is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a device fills it with its next message."""
    op.add_column("device", sa.Column("health", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("device", "health")

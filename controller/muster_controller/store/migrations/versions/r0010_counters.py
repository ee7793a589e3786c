"""Business counters of windows."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, windows that came before count nothing; and a way to find the crashes of a version."""
    op.add_column("window", sa.Column("counters", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("event_version", "event", ["digest", "kind", "at"])


def downgrade() -> None:
    """Remove it, with everything that was counted."""
    op.drop_index("event_version", "event")
    op.drop_column("window", "counters")

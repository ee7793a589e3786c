"""Devices that may have to be told something else, and of which something new is known."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both, with a note of every device: what was changed just before the upgrade is told too."""
    with op.batch_alter_table("device") as table:
        table.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
        table.create_index("ix_device_revision", ["revision"])
    op.create_table(
        "untold",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO untold (device) SELECT id FROM device WHERE revoked_at IS NULL")


def downgrade() -> None:
    """Remove it: an older controller looks at every device."""
    op.drop_table("untold")
    with op.batch_alter_table("device") as table:
        table.drop_index("ix_device_revision")
        table.drop_column("revision")

"""The models that a person's roles are for."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; whoever is there already is over all models."""
    with op.batch_alter_table("person") as table:
        table.add_column(sa.Column("models", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Remove them, and turn away whoever was over some: an older controller would take them as over all."""
    op.execute("UPDATE person SET revoked_at = token_at WHERE revoked_at IS NULL AND models IS NOT NULL")
    with op.batch_alter_table("person") as table:
        table.drop_column("models")

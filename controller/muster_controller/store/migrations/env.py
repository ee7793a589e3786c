"""What alembic runs for each migration, on the connection and in the transaction that it was given."""

from alembic import context
from sqlmodel import SQLModel

from muster_controller.store import alarm_tables, order_tables, people_tables, sample_tables, tables

# The tables of each module are known once it was imported.
TABLES = (tables, alarm_tables, order_tables, sample_tables, people_tables)

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
context.run_migrations()

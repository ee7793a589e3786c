"""What alembic runs for each migration, on the connection and in the transaction that it was given."""

from alembic import context

from muster_controller.store import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.Device.metadata)
context.run_migrations()

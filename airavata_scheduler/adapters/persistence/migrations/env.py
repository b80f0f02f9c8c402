"""Alembic's environment: runs the revisions on the connection handed over by `migrate.py`."""

from alembic import context

from airavata_scheduler.adapters.persistence.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()

"""What Alembic runs: the steps, on the connection that `database.migrate` has opened."""

from __future__ import annotations

from alembic import context

from hotmend.server.database import load_tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=load_tables(),
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
context.run_migrations()

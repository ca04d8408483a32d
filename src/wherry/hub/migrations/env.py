"""How Alembic runs the hub's migrations: on the connection that ``hub/database.py`` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from wherry.hub.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()

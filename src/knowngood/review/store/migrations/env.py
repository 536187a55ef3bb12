"""Alembic's entry point: runs the steps on the connection of `database`."""

from __future__ import annotations

from alembic import context

from knowngood.review.store.database import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata)
context.run_migrations()

"""Migrations of the tables, one file a step; Alembic runs those that a database lacks."""

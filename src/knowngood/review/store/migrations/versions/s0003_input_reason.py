"""Adds the reason why a photograph is sent to review whatever its score."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; inspections from before have no reason."""
    op.add_column("inspections", sa.Column("input_reason", sa.Text))


def downgrade() -> None:
    """Raises: a record is never downgraded."""
    raise NotImplementedError("The record is never taken back; restore a copy instead.")

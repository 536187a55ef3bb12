"""Adds hashes of everything that decides, own approvals, and heartbeats.

Revisions from before name their weights and their recipe.json only. Their hashes are computed as of a recipe with
nothing else in its folder; `parts` stays empty, which marks them.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from knowngood.recipe.manifest import seal

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_VOLATILE = ("seal", "name", "created", "versions")  # as it was when this step was written


def upgrade() -> None:
    """Adds the columns, and fills them in for the revisions that are there."""
    for name in ("digest", "scoring"):
        op.add_column("revisions", sa.Column(name, sa.String(64)))
    for name in ("parts", "signed_by"):
        op.add_column("revisions", sa.Column(name, sa.Text))
    op.add_column("signoffs", sa.Column("own", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "beats",
        sa.Column("station", sa.String(80), primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
    )
    _fill_in()
    for name in ("digest", "scoring"):
        op.create_index(f"ix_revisions_{name}", "revisions", [name])


def _fill_in() -> None:
    """Writes both hashes of each revision, with the trigger that forbids changes off."""
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        op.execute("DROP TRIGGER keep_revisions_update")
    else:
        op.execute("ALTER TABLE revisions DISABLE TRIGGER keep_revisions")
    found = connection.execute(sa.text("SELECT id, weights_sha256, manifest FROM revisions")).all()
    for number, weights, manifest in found:
        document = {name: value for name, value in json.loads(manifest).items() if name not in _VOLATILE}
        uncut = {name: value for name, value in document.items() if name != "threshold"}
        values = {
            name: seal({"recipe.json": seal(said), "weights.safetensors": weights})
            for name, said in (("digest", document), ("scoring", uncut))
        }
        change = sa.text("UPDATE revisions SET digest = :digest, scoring = :scoring WHERE id = :id")
        connection.execute(change, values | {"id": number})
    if sqlite:
        op.execute(
            "CREATE TRIGGER keep_revisions_update BEFORE UPDATE ON revisions "
            "BEGIN SELECT RAISE(ABORT, 'revisions is only ever added to'); END"
        )
    else:
        op.execute("ALTER TABLE revisions ENABLE TRIGGER keep_revisions")


def downgrade() -> None:
    """Raises: a record is never downgraded."""
    raise NotImplementedError("The record is never taken back; restore a copy instead.")

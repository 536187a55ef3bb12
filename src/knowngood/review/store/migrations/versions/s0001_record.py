"""The first tables of the record, with triggers that refuse changes of verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEPT = ("revisions", "inspections", "verdicts", "signoffs")
_FLOAT = sa.Float(53)


def _who_and_when() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("who", sa.String(80), nullable=False), sa.Column("at", sa.String(32), nullable=False)


def upgrade() -> None:
    """Creates all tables."""
    _people()
    _facts()
    _said()
    for table in _KEPT:
        _hold(table)


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, unique=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
        sa.CheckConstraint("role IN ('operator', 'engineer', 'auditor')", name="known_role"),
    )
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
    )


def _facts() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("weights_sha256", sa.String(64), nullable=False, index=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("accept_below", _FLOAT, nullable=False),
        sa.Column("reject_from", _FLOAT, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("revisions.id")),
        *_who_and_when(),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("place", sa.Text),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("data", sa.String(400), nullable=False),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("label", sa.Integer),
        sa.Column("defect", sa.String(80)),
        sa.Column("split", sa.String(16)),
        sa.Column("generated", sa.Integer, nullable=False),
        sa.UniqueConstraint("data", "image", name="one_row_an_image"),
    )


def _said() -> None:
    op.create_table(
        "inspections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("unit", sa.String(200), nullable=False, index=True),
        sa.Column("image", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("lot", sa.String(200), index=True),
        sa.Column("machine", sa.String(200)),
        sa.Column("revision_id", sa.Integer, sa.ForeignKey("revisions.id"), nullable=False, index=True),
        sa.Column("defect_score", _FLOAT),
        sa.Column("decision", sa.String(8)),
        sa.Column("accept_below", _FLOAT, nullable=False),
        sa.Column("reject_from", _FLOAT, nullable=False),
        sa.Column("region", sa.Text),
        *(sa.Column(name, _FLOAT) for name in ("brightness", "contrast", "sharpness")),
        sa.Column("error", sa.Text),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("who", sa.String(80), nullable=False),
        sa.Column("at", sa.String(32), nullable=False, index=True),
    )
    op.create_table(
        "queue",
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id"), primary_key=True),
        sa.Column("doubt", _FLOAT, nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("passes", sa.Integer, nullable=False),
        sa.Column("settled", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(200)),
        sa.Column("held_until", sa.String(32)),
    )
    op.create_index("queue_order", "queue", ["settled", "passes", sa.text("doubt DESC"), "inspection_id"])
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("inspection_id", sa.Integer, sa.ForeignKey("inspections.id"), nullable=False, index=True),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("defect", sa.String(80)),
        sa.Column("undoes", sa.Integer, sa.ForeignKey("verdicts.id"), unique=True),
        sa.Column("region", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("key", sa.String(64), unique=True),
        sa.Column("who", sa.String(80), nullable=False, index=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("seconds", _FLOAT),
        sa.CheckConstraint("verdict IN ('good', 'bad', 'unsure', 'drop', 'undo')", name="known_verdict"),
        sa.CheckConstraint("(verdict = 'undo') = (undoes IS NOT NULL)", name="undo_names_a_row"),
    )
    op.create_table(
        "signoffs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("old_id", sa.Integer, sa.ForeignKey("revisions.id"), nullable=False),
        sa.Column("new_id", sa.Integer, sa.ForeignKey("revisions.id"), nullable=False, index=True),
        sa.Column("agrees", sa.Integer, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        *_who_and_when(),
        sa.Column("why", sa.Text, nullable=False),
    )


def _hold(table: str) -> None:
    """Creates triggers with which the database refuses to change or delete a row."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER keep_{table}_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION keep_{table}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is only ever added to'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER keep_{table} BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION keep_{table}()"
    )


def downgrade() -> None:
    """Raises: a record is never downgraded."""
    raise NotImplementedError("The record is never taken back; restore a copy instead.")

"""Recipes as they were served: each change of a threshold is a revision with who, when and why."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from knowngood.errors import ConfigError
from knowngood.review.store.inspections import Row
from knowngood.review.store.opening import Database
from knowngood.review.store.schema import Revision, Signoff, now

if TYPE_CHECKING:
    from knowngood.recipe.manifest import RecipeManifest


class Revisions:
    """The revisions of a record."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, manifest: RecipeManifest, who: str) -> None:
        """Adds a recipe as it lies in its folder, if the record has not seen it; a copy of a change of ours is none."""
        from knowngood.recipe.manifest import seal  # brings torch with it, which who only writes verdicts does not need

        digest = seal(manifest.document())
        with self.database.reading() as connection:
            seen = connection.execute(select(Revision.id).where(Revision.hash == digest)).first()
        if seen is None:
            newest = self.newest(manifest.weights_sha256)
            self._add(manifest, digest, newest["id"] if newest else None, who, "Served from its folder.")

    def to_serve(self, weights_sha256: str, *, unsigned: bool = False) -> Row | None:
        """Returns the revision with these weights that may be served, or None.

        That is the one which a person approved last, if that is still their last word on it; else the first revision
        of the record, which there is nothing to compare with, unless it was refused. Whoever wants an unsigned one
        gets the newest.
        """
        if unsigned:
            return self.newest(weights_sha256)
        words = select(Signoff.new_id, Signoff.agrees).join(Revision, Revision.id == Signoff.new_id)
        words = words.where(Revision.weights_sha256 == weights_sha256).order_by(Signoff.id)
        first = select(Revision.id, Revision.weights_sha256).order_by(Revision.id).limit(1)
        with self.database.reading() as connection:
            said = connection.execute(words).all()
            oldest = connection.execute(first).first()
        last = {number: bool(agrees) for number, agrees in said}
        approved = next((number for number, agrees in reversed(said) if agrees and last[number]), None)
        if approved is not None:
            return self.one(approved)
        if oldest is not None and oldest.weights_sha256 == weights_sha256 and last.get(oldest.id, True):
            return self.one(oldest.id)
        return None

    def change(self, parent: Row, accept_below: float, reject_from: float, who: str, why: str) -> Row:
        """Adds a revision with other cuts; it is the newest, and waits for a sign-off.

        Raises:
            ConfigError: The cuts are no pair within 0..1, or nobody says why.
        """
        if not 0 <= accept_below <= reject_from <= 1:
            raise ConfigError(
                f"accept below {accept_below:g} and reject from {reject_from:g} are no pair.",
                expected="0 <= accept_below <= reject_from <= 1",
            )
        if not why.strip():
            raise ConfigError("Nobody says why the threshold is moved.", fix="Fill in the reason.")
        from knowngood.recipe.manifest import RecipeManifest, seal

        manifest = RecipeManifest.model_validate_json(parent["manifest"])
        threshold = manifest.threshold | {
            "threshold": accept_below,
            "reject_from": reject_from,
            "basis": "set by hand",
            "certified": False,
            "sentence": f"Set by {who}: {why.strip()}",
        }
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        changed = manifest.model_copy(update={"threshold": threshold, "created": created})
        number = self._add(changed, seal(changed.document()), parent["id"], who, why.strip())
        found = self.one(number)
        assert found is not None
        return found

    def newest(self, weights_sha256: str) -> Row | None:
        """Returns the newest revision with these weights, or None."""
        query = select(Revision.__table__).where(Revision.weights_sha256 == weights_sha256)
        with self.database.reading() as connection:
            found = connection.execute(query.order_by(Revision.id.desc()).limit(1)).mappings().first()
        return None if found is None else dict(found)

    def signed(self, number: int) -> bool:
        """Says whether a person's last word on a revision approves it; the first of the record needs none."""
        words = select(Signoff.agrees).where(Signoff.new_id == number).order_by(Signoff.id.desc()).limit(1)
        with self.database.reading() as connection:
            said = connection.execute(words).scalar_one_or_none()
            first = connection.execute(select(func.min(Revision.id))).scalar_one()
        return bool(said) if said is not None else number == first

    def waiting(self, weights_sha256: str, after: int) -> Row | None:
        """Returns the newest revision with these weights after a number that nobody has said a word on, or None."""
        query = select(Revision.__table__).where(Revision.weights_sha256 == weights_sha256, Revision.id > after)
        query = query.where(~exists().where(Signoff.new_id == Revision.id)).order_by(Revision.id.desc()).limit(1)
        with self.database.reading() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else dict(found)

    def one(self, number: int) -> Row | None:
        """Returns one revision, or None."""
        with self.database.reading() as connection:
            query = select(Revision.__table__).where(Revision.id == number)
            found = connection.execute(query).mappings().first()
        return None if found is None else dict(found)

    def everything(self) -> list[Row]:
        """Returns all revisions without their manifests, the newest first, each with its sign-offs."""
        columns = [column for column in Revision.__table__.columns if column.name != "manifest"]
        with self.database.reading() as connection:
            rows = [dict(r) for r in connection.execute(select(*columns).order_by(Revision.id.desc())).mappings()]
            signed = [dict(r) for r in connection.execute(select(Signoff.__table__).order_by(Signoff.id)).mappings()]
        return [row | {"signoffs": [s for s in signed if s["new_id"] == row["id"]]} for row in rows]

    def sign(self, old: int, new: int, *, agrees: bool, result: dict[str, Any], who: str, why: str) -> int:
        """Adds a person's word on a new revision.

        Raises:
            ConfigError: There is no such revision.
        """
        values = {"old_id": old, "new_id": new, "agrees": int(agrees), "result": json.dumps(result), "who": who}
        try:
            with self.database.writing() as connection:
                made = insert(Signoff).values(**values, at=now(), why=why).returning(Signoff.id)
                return int(connection.execute(made).scalar_one())
        except IntegrityError as error:
            raise ConfigError(f"There is no revision {old} or {new}.") from error

    def _add(self, manifest: RecipeManifest, digest: str, parent: int | None, who: str, why: str) -> int:
        values = {
            "hash": digest,
            "weights_sha256": manifest.weights_sha256,
            "name": manifest.name,
            "accept_below": float(manifest.threshold["threshold"]),
            "reject_from": float(manifest.threshold["reject_from"]),
            "manifest": json.dumps(manifest.document()),
            "parent_id": parent,
            "who": who,
            "at": now(),
            "why": why,
        }
        try:
            with self.database.writing() as connection:
                return int(connection.execute(insert(Revision).values(**values).returning(Revision.id)).scalar_one())
        except IntegrityError:  # another station has just added it
            with self.database.reading() as connection:
                return int(connection.execute(select(Revision.id).where(Revision.hash == digest)).scalar_one())

"""Revisions: recipes as they were served, with author, time, reason, and a hash of everything that decides.

Revisions with the same `scoring` hash differ in their two cuts only, and give equal scores; a station serves one of
those whose scores its recipe's folder gives.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from sqlalchemy import exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from knowngood.errors import ConfigError, ConflictError
from knowngood.metrics.thresholds import BY_HAND
from knowngood.review.store.database import Database, Revision, Signoff, now
from knowngood.review.store.deciding import WEIGHTS, Decider
from knowngood.review.store.inspections import Row


class Revisions:
    """The revisions of a record."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, decider: Decider, who: str, signed_by: str | None = None) -> None:
        """Adds a recipe as it lies in its folder, if the record has not seen it; a copy of a change of ours is none.

        Args:
            decider: Everything that it decides by.
            who: Serves it.
            signed_by: Whose signature lies beside it, if one does.
        """
        with self.database.reading() as connection:
            known = select(Revision.id).where(Revision.digest == decider.digest).limit(1)
            seen = connection.execute(known).first()
        if seen is None:
            newest = self.newest(decider.scoring)
            self._add(decider, newest["id"] if newest else None, who, "Served from its folder.", signed_by)

    def to_serve(self, scoring: str, *, allow_unapproved: bool = False) -> Row | None:
        """Returns the revision that may be served with the scores of a recipe, or None.

        That is the one which a person approved last, if that is still their last word on it; else the first revision
        of the record, which there is nothing to compare with, unless it was refused. Whoever wants an unsigned one
        gets the newest.

        Args:
            scoring: Hash of everything of the recipe that decides but the cuts.
            allow_unapproved: Whether the newest is wanted, approved or not.
        """
        if allow_unapproved:
            return self.newest(scoring)
        words = select(Signoff.new_id, Signoff.agrees).join(Revision, Revision.id == Signoff.new_id)
        words = words.where(Revision.scoring == scoring).order_by(Signoff.id)
        first = select(Revision.id, Revision.scoring).order_by(Revision.id).limit(1)
        with self.database.reading() as connection:
            found = connection.execute(words).all()
            oldest = connection.execute(first).first()
        last = {number: bool(agrees) for number, agrees in found}
        approved = next((number for number, agrees in reversed(found) if agrees and last[number]), None)
        if approved is not None:
            return self.one(approved)
        if oldest is not None and oldest.scoring == scoring and last.get(oldest.id, True):
            return self.one(oldest.id)
        return None

    def change(self, parent: Row, accept_below: float, reject_from: float, who: str, why: str) -> Row:
        """Adds a revision with other cuts; it is the newest, and waits for a sign-off.

        Raises:
            ConfigError: The thresholds are no pair within 0..1, or there is no reason.
        """
        if not 0 <= accept_below <= reject_from <= 1:
            raise ConfigError(
                f"accept below {accept_below:g} and reject from {reject_from:g} are no pair.",
                expected="0 <= accept_below <= reject_from <= 1",
            )
        if not why.strip():
            raise ConfigError("There is no reason for the new threshold.", fix="Fill in the reason.")
        decider = Decider.of_row(parent)
        threshold = decider.document["threshold"] | {
            "threshold": accept_below,
            "reject_from": reject_from,
            "basis": BY_HAND,
            "certified": False,
            "sentence": f"Set by {who}: {why.strip()}",
        }
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        changed = decider.with_cuts(threshold, created)
        number = self._add(changed, parent["id"], who, why.strip(), parent["signed_by"])
        found = self.one(number)
        assert found is not None
        return found

    def newest(self, scoring: str) -> Row | None:
        """Returns the newest revision with these scores, or None."""
        query = select(Revision.__table__).where(Revision.scoring == scoring)
        with self.database.reading() as connection:
            found = connection.execute(query.order_by(Revision.id.desc()).limit(1)).mappings().first()
        return None if found is None else dict(found)

    def signed(self, number: int) -> bool:
        """Returns whether the last sign-off of a revision approves it; the first revision of a record needs none."""
        words = select(Signoff.agrees).where(Signoff.new_id == number).order_by(Signoff.id.desc()).limit(1)
        with self.database.reading() as connection:
            agrees = connection.execute(words).scalar_one_or_none()
            first = connection.execute(select(func.min(Revision.id))).scalar_one()
        return bool(agrees) if agrees is not None else number == first

    def approved_relative(self, decider: Decider) -> Row | None:
        """Returns the last approved revision of a recipe with the same weights or name, whatever else differs, or None.

        Args:
            decider: Of the recipe.
        """
        alike = (Revision.weights_sha256 == decider.files.get(WEIGHTS), Revision.name == str(decider.document["name"]))
        for same in alike:
            query = select(Revision.id).where(same).order_by(Revision.id.desc())
            with self.database.reading() as connection:
                numbers = connection.execute(query).scalars().all()
            number = next((one for one in numbers if self.signed(one)), None)
            if number is not None:
                return self.one(number)
        return None

    def waiting(self, scoring: str, after: int) -> Row | None:
        """Returns the newest revision with these scores after a number without any sign-off, or None."""
        query = select(Revision.__table__).where(Revision.scoring == scoring, Revision.id > after)
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

    def sign(
        self, old: int, new: int, *, agrees: bool, result: dict[str, Any], who: str, why: str, own: bool = False
    ) -> int:
        """Adds a person's word on a new revision.

        Args:
            old: Revision that it was compared with.
            new: Revision that the word is on.
            agrees: Whether it is approved.
            result: Figures that the person saw.
            who: Name of the person.
            why: Reason.
            own: Whether a person may approve a revision that they made; the record then marks it as their own.

        Raises:
            ConfigError: There is no such revision.
            ConflictError: They made it themselves, and may not approve their own.
        """
        made_by = (self.one(new) or {}).get("who")
        itself = agrees and made_by == who
        if itself and not own:
            raise ConflictError(
                f"{who} has made revision {new} and cannot approve it.",
                fix="Let another engineer approve it, or serve with --allow-own-approval: the record then marks it.",
            )
        values = {"old_id": old, "new_id": new, "agrees": int(agrees), "result": json.dumps(result), "who": who}
        values["own"] = int(itself)
        try:
            with self.database.writing() as connection:
                made = insert(Signoff).values(**values, at=now(), why=why).returning(Signoff.id)
                return int(connection.execute(made).scalar_one())
        except IntegrityError as error:
            raise ConfigError(f"There is no revision {old} or {new}.") from error

    def _add(self, decider: Decider, parent: int | None, who: str, why: str, signed_by: str | None) -> int:
        document = decider.document
        values = {
            "digest": decider.digest,
            "scoring": decider.scoring,
            "parts": json.dumps(decider.files) if decider.recorded else None,
            "signed_by": signed_by,
            "weights_sha256": document["weights_sha256"],
            "name": str(document["name"])[:200],
            "accept_below": float(document["threshold"]["threshold"]),
            "reject_from": float(document["threshold"]["reject_from"]),
            "manifest": json.dumps(document),
            "parent_id": parent,
            "who": who,
            "at": now(),
            "why": why,
        }
        for name in (decider.hash, decider.digest):  # the second where the same recipe.json lay beside other files
            try:
                with self.database.writing() as connection:
                    made = insert(Revision).values(**values, hash=name).returning(Revision.id)
                    return int(connection.execute(made).scalar_one())
            except IntegrityError:
                with self.database.reading() as connection:
                    known = select(Revision.id).where(Revision.digest == decider.digest).limit(1)
                    found = connection.execute(known).scalar_one_or_none()
                if found is not None:  # another station has just added it
                    return int(found)
        raise ConflictError("The revision cannot be added: its hash is that of another one.", fix="Try again.")

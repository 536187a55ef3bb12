"""Verdicts of people: rows are only added, an undo is a row of its own, and an acknowledged verdict is on the disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from knowngood.errors import ConfigError, ConflictError
from knowngood.review.store.database import BAD, UNDO, VERDICTS, Database, Inspection, Label, Queued, Verdict, now
from knowngood.review.store.inspections import Box, Row, as_row


@dataclass(frozen=True)
class NewVerdict:
    """A verdict to add to the record.

    Attributes:
        inspection_id: What it is about.
        verdict: "good", "bad", "unsure" or "drop" (does not belong to the set).
        who: Name of the person.
        defect: Type, of a bad one.
        region: The box shown on the screen, (x0, y0, x1, y1) in pixels of the photograph.
        note: Free text.
        key: Idempotency key of the request: a second request with the same key adds nothing.
        seconds: Time from showing the photograph to the key press.
    """

    inspection_id: int
    verdict: str
    who: str
    defect: str | None = None
    region: Box | None = None
    note: str | None = None
    key: str | None = None
    seconds: float | None = None


class Verdicts:
    """The verdicts of a record."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, new: NewVerdict, holder: str | None = None) -> int:
        """Adds a verdict; when this returns it is on the disk.

        Args:
            new: The verdict.
            holder: Window that the image is assigned to; None for a verdict given outside of the queue.

        Returns:
            The number of the verdict.

        Raises:
            ConflictError: The image is assigned to somebody else, or was settled in the meantime.
            ConfigError: There is no such inspection or verdict.
        """
        if new.verdict not in VERDICTS or (new.defect and new.verdict != BAD):
            raise ConfigError(
                f"The verdict {new.verdict!r} with defect {new.defect!r} is none.",
                expected="good, bad (with or without a defect), unsure or drop",
            )
        try:
            with self.database.writing() as connection:
                before = self._by_key(connection, new.key)
                if before is not None:
                    return before
                _settle(connection, new.inspection_id, holder)
                return _add(connection, new)
        except (IntegrityError, ConflictError) as error:
            # The same request twice at the same moment: one of the two waits for the other, and finds its work done.
            with self.database.reading() as connection:
                before = self._by_key(connection, new.key)
            if before is not None:
                return before
            if isinstance(error, ConflictError):
                raise
            raise ConfigError(f"There is no inspection {new.inspection_id}.") from error

    def undo(self, who: str, holder: str, *, key: str | None = None, seconds: float = 120.0) -> Row | None:
        """Undoes the last verdict of a person by a row of its own, and assigns the image to them again.

        Args:
            who: Whose last verdict.
            holder: Who gets the image.
            key: Of the request.
            seconds: How long the image is assigned to `holder`.

        Returns:
            The verdict that was taken back, or None where there is none.
        """
        with self.database.writing() as connection:
            before = self._by_key(connection, key)
            if before is not None:
                undone = select(Verdict.undoes).where(Verdict.id == before).scalar_subquery()
                query = select(Verdict.__table__).where(Verdict.id == undone)
                return as_row(connection.execute(query).mappings().one())
            query = standing().where(Verdict.who == who).order_by(Verdict.id.desc()).limit(1)
            found = connection.execute(query).mappings().first()
            if found is None:
                return None
            row = as_row(found)
            values = {"inspection_id": row["inspection_id"], "sha256": row["sha256"], "verdict": UNDO}
            connection.execute(insert(Verdict).values(**values, undoes=row["id"], who=who, at=now(), key=key))
            again = update(Queued).where(Queued.inspection_id == row["inspection_id"])
            connection.execute(again.values(settled=0, passes=0, holder=holder, held_until=now(seconds)))
        return row

    def of_inspection(self, number: int) -> list[Row]:
        """Returns all rows about one inspection, oldest first."""
        query = select(Verdict.__table__).where(Verdict.inspection_id == number).order_by(Verdict.id)
        with self.database.reading() as connection:
            return [as_row(found) for found in connection.execute(query).mappings()]

    def everything(self) -> list[Row]:
        """Returns all rows, oldest first."""
        with self.database.reading() as connection:
            query = select(Verdict.__table__).order_by(Verdict.id)
            return [as_row(found) for found in connection.execute(query).mappings()]

    def standing(self) -> list[Row]:
        """Returns the verdicts that nobody took back, with unit, image and decision of what they are about."""
        columns = (Inspection.unit, Inspection.image, Inspection.decision, Inspection.defect_score, Inspection.lot)
        query = standing(*columns).join(Inspection, Inspection.id == Verdict.inspection_id).order_by(Verdict.id)
        with self.database.reading() as connection:
            return [as_row(found) for found in connection.execute(query).mappings()]

    def today(self, who: str) -> int:
        """Returns how many verdicts of a person stand since midnight UTC."""
        query = standing().where(Verdict.who == who, Verdict.at >= now()[:10]).subquery()
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(query)).scalar_one())

    def corrections(self) -> list[Row]:
        """Returns, for each image of a data set with a standing verdict, the last one beside the set's own label."""
        last = standing().subquery()
        newest = select(func.max(last.c.id)).group_by(last.c.sha256).scalar_subquery()
        columns = (Label.data, Label.image, Label.label, Label.defect, Label.split, Label.sha256)
        verdict = (last.c.verdict, last.c.defect.label("verdict_defect"), last.c.who, last.c.at, last.c.id)
        query = select(*columns, *verdict).join(last, last.c.sha256 == Label.sha256).where(last.c.id.in_(newest))
        with self.database.reading() as connection:
            return [dict(found) for found in connection.execute(query.order_by(Label.data, Label.image)).mappings()]

    @staticmethod
    def _by_key(connection: Connection, key: str | None) -> int | None:
        if key is None:
            return None
        return connection.execute(select(Verdict.id).where(Verdict.key == key)).scalar_one_or_none()


def standing(*more: Any) -> Select[Any]:
    """Returns the query of verdicts that were not taken back."""
    undo = aliased(Verdict)
    query = select(Verdict.__table__, *more).where(Verdict.verdict != UNDO)
    return query.where(~exists().where(undo.undoes == Verdict.id))


def _settle(connection: Connection, number: int, holder: str | None) -> None:
    """Marks an image of the queue as settled; refuses when it is assigned to another window."""
    place = select(Queued.holder, Queued.held_until, Queued.settled).where(Queued.inspection_id == number)
    found = connection.execute(place.with_for_update()).first()
    if found is None:
        return
    elsewhere = found.holder not in (None, holder) and (found.held_until or "") > now()
    if holder is not None and (found.settled or found.holder != holder):
        raise ConflictError(
            "This image is no longer assigned to you: the time ran out, or somebody else has given a verdict.",
            fix="Continue with the next one.",
        )
    if holder is None and elsewhere:
        raise ConflictError("Somebody is looking at this image now.", fix="Try again in a few minutes.")
    gone = update(Queued).where(Queued.inspection_id == number)
    connection.execute(gone.values(settled=1, holder=None, held_until=None))


def _add(connection: Connection, new: NewVerdict) -> int:
    digest = select(Inspection.sha256).where(Inspection.id == new.inspection_id).scalar_subquery()
    made = insert(Verdict).values(
        inspection_id=new.inspection_id,
        sha256=digest,
        verdict=new.verdict,
        defect=new.defect,
        region=None if new.region is None else json.dumps(new.region),
        note=new.note,
        key=new.key,
        who=new.who,
        at=now(),
        seconds=new.seconds,
    )
    return int(connection.execute(made.returning(Verdict.id)).scalar_one())

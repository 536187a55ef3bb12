"""What people say: verdicts are added, taking one back adds a row, and nothing is lost once it was acknowledged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from knowngood.errors import ConfigError, ConflictError
from knowngood.review.store.database import BAD, SAID, UNDO, Database, Inspection, Label, Queued, Verdict, now
from knowngood.review.store.inspections import Box, Row, as_row


@dataclass(frozen=True)
class Said:
    """A verdict on its way into the record.

    Attributes:
        inspection_id: What it is about.
        verdict: "good", "bad", "unsure" or "drop" (does not belong to the set).
        who: Said it.
        defect: Type, of a bad one.
        region: The box that was on the screen, pixels of the photograph.
        note: Free words.
        key: Of the request; a second request with it adds nothing.
        seconds: From the picture to the key.
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

    def say(self, said: Said, holder: str | None = None) -> int:
        """Adds a verdict; when this returns it is on the disk.

        Args:
            said: The verdict.
            holder: Who holds the image in the queue; None for a correction outside of it.

        Returns:
            The number of the verdict.

        Raises:
            ConflictError: Somebody else holds the image, or it was settled meanwhile.
            ConfigError: There is no such inspection or verdict.
        """
        if said.verdict not in SAID or (said.defect and said.verdict != BAD):
            raise ConfigError(
                f"The verdict {said.verdict!r} with defect {said.defect!r} is none.",
                expected="good, bad (with or without a defect), unsure or drop",
            )
        try:
            with self.database.writing() as connection:
                before = self._by_key(connection, said.key)
                if before is not None:
                    return before
                _settle(connection, said.inspection_id, holder)
                return _add(connection, said)
        except (IntegrityError, ConflictError) as error:
            # The same request twice at the same moment: one of the two waits for the other, and finds its work done.
            with self.database.reading() as connection:
                before = self._by_key(connection, said.key)
            if before is not None:
                return before
            if isinstance(error, ConflictError):
                raise
            raise ConfigError(f"There is no inspection {said.inspection_id}.") from error

    def undo(self, who: str, holder: str, *, key: str | None = None, seconds: float = 120.0) -> Row | None:
        """Takes back the last verdict of a person by a row of its own, and hands the image back to them.

        Args:
            who: Whose last verdict.
            holder: Who gets the image.
            key: Of the request.
            seconds: How long the image is held.

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
        said = (last.c.verdict, last.c.defect.label("said_defect"), last.c.who, last.c.at, last.c.id)
        query = select(*columns, *said).join(last, last.c.sha256 == Label.sha256).where(last.c.id.in_(newest))
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
    """Takes an image out of the queue, if it is there and its holder says so."""
    place = select(Queued.holder, Queued.held_until, Queued.settled).where(Queued.inspection_id == number)
    found = connection.execute(place.with_for_update()).first()
    if found is None:
        return
    elsewhere = found.holder not in (None, holder) and (found.held_until or "") > now()
    if holder is not None and (found.settled or found.holder != holder):
        raise ConflictError(
            "This image is no longer yours: it was held too long, or somebody else has judged it.",
            fix="Go on with the next one.",
        )
    if holder is None and elsewhere:
        raise ConflictError("Somebody is looking at this image now.", fix="Try again in a few minutes.")
    gone = update(Queued).where(Queued.inspection_id == number)
    connection.execute(gone.values(settled=1, holder=None, held_until=None))


def _add(connection: Connection, said: Said) -> int:
    digest = select(Inspection.sha256).where(Inspection.id == said.inspection_id).scalar_subquery()
    made = insert(Verdict).values(
        inspection_id=said.inspection_id,
        sha256=digest,
        verdict=said.verdict,
        defect=said.defect,
        region=None if said.region is None else json.dumps(said.region),
        note=said.note,
        key=said.key,
        who=said.who,
        at=now(),
        seconds=said.seconds,
    )
    return int(connection.execute(made.returning(Verdict.id)).scalar_one())

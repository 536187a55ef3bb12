"""Inspections: adds them, and returns the history of a unit or a lot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from knowngood.review.store.database import Database, Image, Inspection, Label, Queued, Revision, Verdict, now

Row: TypeAlias = dict[str, Any]
Box: TypeAlias = tuple[int, int, int, int]
ANY_LOT = "\n"  # no lot is called so: names have no control characters


@dataclass(frozen=True)
class Filed:
    """One inspection to add to the record.

    Attributes:
        unit: Name of the part; the file's name without ending unless it was given.
        image: Name of the file, as it was sent.
        sha256: Of its bytes.
        revision_id: That inspected it.
        accept_below: The cut at that time.
        reject_from: The other cut.
        defect_score: In 0..1, or None when it could not be read.
        decision: "accept", "review", "reject" or None.
        lot: Batch, if known.
        machine: Where it was shot, if known.
        region: (x0, y0, x1, y1) of the largest region, pixels of the photograph, half-open.
        brightness: Mean grey level, 0..255.
        contrast: Standard deviation of the grey levels.
        sharpness: Mean absolute step between neighbours, in grey levels.
        error: Why it could not be read.
        source: "api", "kserve", "watch", "data" or "out-of-fold".
        who: That sent it.
        priority: Place in the review queue, higher first; None when no review is needed.
        reason: Why a review is needed.
        input_reason: Why the decision is "review" whatever the score, such as "not this product: ..."; else None.
    """

    unit: str
    image: str
    sha256: str
    revision_id: int
    accept_below: float
    reject_from: float
    defect_score: float | None
    decision: str | None
    lot: str | None = None
    machine: str | None = None
    region: Box | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    error: str | None = None
    source: str = "api"
    who: str = ""
    priority: float | None = None
    reason: str = ""
    input_reason: str | None = None


class Inspections:
    """The inspections of a record."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def file(self, rows: Sequence[Filed], images: Iterable[tuple[str, str | None, int]] = ()) -> list[int]:
        """Adds inspections in one transaction; when this returns they are on the disk.

        Args:
            rows: What was found.
            images: (sha256, place, bytes) of photographs whose bytes are kept or known to lie somewhere.

        Returns:
            The number of each inspection.
        """
        with self.database.writing() as connection:
            at = now()
            places = [{"sha256": s, "place": p, "bytes": b, "at": at} for s, p, b in images]
            if places:
                add = either(connection, Image)
                newest = func.coalesce(add.excluded.place, Image.place)  # where they lie now, if that is known
                connection.execute(add.on_conflict_do_update(index_elements=["sha256"], set_={"place": newest}), places)
            numbers: list[int] = []
            for row in rows:
                values = asdict(row) | {"at": at, "region": None if row.region is None else json.dumps(row.region)}
                priority, reason = values.pop("priority"), values.pop("reason")
                made = connection.execute(insert(Inspection).values(**values).returning(Inspection.id)).scalar_one()
                numbers.append(made)
                if priority is not None:
                    queued = {"inspection_id": made, "priority": priority, "reason": reason, "passes": 0, "settled": 0}
                    connection.execute(insert(Queued).values(**queued))
        return numbers

    def one(self, number: int) -> Row | None:
        """Returns one inspection with its queue's reason and its revision, or None."""
        with self.database.reading() as connection:
            found = connection.execute(_whole().where(Inspection.id == number)).mappings().first()
        return None if found is None else as_row(found)

    def place_of(self, sha256: str) -> str | None:
        """Returns where the bytes of a photograph lie, if they are kept."""
        with self.database.reading() as connection:
            return connection.execute(select(Image.place).where(Image.sha256 == sha256)).scalar_one_or_none()

    def known(self, scoring: str) -> set[tuple[str, str]]:
        """Returns (image, sha256) of the photographs that a recipe with these scores has inspected.

        Not the bytes alone: two units may have equal photographs, and each has its own inspection.
        """
        query = select(Inspection.image, Inspection.sha256).join(Revision).where(Revision.scoring == scoring)
        with self.database.reading() as connection:
            return {(str(image), str(digest)) for image, digest in connection.execute(query.distinct())}

    def known_of(self, scoring: str, source: str, digests: Sequence[str]) -> set[tuple[str, str]]:
        """Returns what `known` does of photographs with these hashes that came from one source."""
        query = select(Inspection.image, Inspection.sha256).join(Revision).where(Revision.scoring == scoring)
        query = query.where(Inspection.source == source, Inspection.sha256.in_(digests))
        with self.database.reading() as connection:
            return {(str(image), str(digest)) for image, digest in connection.execute(query.distinct())}

    def numbers(self, scoring: str) -> dict[str, int]:
        """Returns hash to the last inspection of each photograph that a recipe with these scores has inspected."""
        query = select(Inspection.sha256, func.max(Inspection.id)).join(Revision).group_by(Inspection.sha256)
        with self.database.reading() as connection:
            found = connection.execute(query.where(Revision.scoring == scoring)).all()
        return {digest: int(number) for digest, number in found}

    def search(self, words: str = "", lot: str | None = None, *, most: int = 50, start: int = 0) -> list[Row]:
        """Returns inspections whose unit, image or hash begins with or holds `words`, the newest first.

        Args:
            words: Nothing finds all.
            lot: Only this lot.
            most: Rows at most.
            start: Rows to leave out.
        """
        query = _whole().order_by(Inspection.id.desc()).limit(most).offset(start)
        if words:
            like = "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            columns = (Inspection.unit, Inspection.image, Inspection.sha256, Inspection.lot)
            query = query.where(or_(*(column.ilike(like, escape="\\") for column in columns)))
        if lot is not None:
            query = query.where(Inspection.lot == lot)
        with self.database.reading() as connection:
            return [as_row(found) for found in connection.execute(query).mappings()]

    def lots_of(self, unit: str) -> list[str | None]:
        """Returns the lots in which there is a unit of this name, None for no lot, in order."""
        query = select(Inspection.lot).where(Inspection.unit == unit).distinct()
        with self.database.reading() as connection:
            return sorted(connection.execute(query).scalars(), key=lambda lot: lot or "")

    def story(self, unit: str, lot: str | None = ANY_LOT) -> list[Row]:
        """Returns the inspections of one unit, oldest first, each with its verdicts.

        Args:
            unit: Its name.
            lot: In which it is; None for a unit without a lot. By default units of this name in all lots.
        """
        with self.database.reading() as connection:
            query = _whole().where(Inspection.unit == unit).order_by(Inspection.id)
            if lot is None or lot != ANY_LOT:
                query = query.where(Inspection.lot.is_(None) if lot is None else Inspection.lot == lot)
            rows = [as_row(found) for found in connection.execute(query).mappings()]
            query = select(Verdict.__table__).where(Verdict.inspection_id.in_([row["id"] for row in rows]))
            verdicts = [as_row(found) for found in connection.execute(query.order_by(Verdict.id)).mappings()]
        undone = {verdict["undoes"] for verdict in verdicts}
        for row in rows:
            row["verdicts"] = [v | {"undone": v["id"] in undone} for v in verdicts if v["inspection_id"] == row["id"]]
        return rows

    def labels_of(self, sha256: str) -> list[Row]:
        """Returns the labels of a photograph in the data sets of the record."""
        with self.database.reading() as connection:
            query = select(Label.__table__).where(Label.sha256 == sha256)
            return [dict(found) for found in connection.execute(query).mappings()]

    def of_lot(self, lot: str) -> list[Row]:
        """Returns the first inspection of each unit of a lot, oldest first: id, unit, machine, decision, score."""
        first = select(func.min(Inspection.id)).where(Inspection.lot == lot).group_by(Inspection.unit)
        columns = (Inspection.id, Inspection.unit, Inspection.machine, Inspection.decision, Inspection.defect_score)
        query = select(*columns).where(Inspection.id.in_(first.scalar_subquery())).order_by(Inspection.id)
        with self.database.reading() as connection:
            return [dict(found) for found in connection.execute(query).mappings()]

    def by_lot(self) -> list[Row]:
        """Returns each inspection's lot, machine, decision, score and picture facts, oldest first; a unit once.

        A unit is a name within a lot: 0001 of two lots is two units.
        """
        first = select(func.min(Inspection.id)).group_by(Inspection.lot, Inspection.unit).scalar_subquery()
        columns = (
            *(Inspection.id, Inspection.lot, Inspection.machine, Inspection.decision, Inspection.defect_score),
            *(Inspection.brightness, Inspection.contrast, Inspection.sharpness, Inspection.sha256),
        )
        query = select(*columns).where(Inspection.id.in_(first), Inspection.error.is_(None)).order_by(Inspection.id)
        with self.database.reading() as connection:
            return [dict(found) for found in connection.execute(query).mappings()]


def either(connection: Connection, table: Any) -> Any:
    """Returns the INSERT statement of this database's dialect, which has ON CONFLICT."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def as_row(found: Any) -> Row:
    """Returns a row as a dict, its region as numbers."""
    row = dict(found)
    if row.get("region"):
        row["region"] = json.loads(row["region"])
    return row


def _whole() -> Select[Any]:
    """Returns the query of inspections with what belongs to them."""
    revision = (
        *(Revision.hash.label("revision"), Revision.name.label("recipe"), Revision.weights_sha256),
        *(Revision.scoring, Revision.digest, Revision.signed_by),
    )
    queue = (Queued.priority.label("priority"), Queued.reason, Queued.settled)
    joined = select(Inspection.__table__, *revision, *queue).join(Revision, Revision.id == Inspection.revision_id)
    return joined.outerjoin(Queued, Queued.inspection_id == Inspection.id)

"""Labels of data sets with the scores of a recipe: what the threshold page and requalification are computed from."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select

from knowngood.review.store.database import BAD, DROP, GOOD, Database, Image, Inspection, Label, Revision
from knowngood.review.store.inspections import Row
from knowngood.review.store.verdicts import standing

CHUNK = 2_000


class Labels:
    """The labels of a record."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def take_over(self, data: str, rows: Sequence[Row]) -> None:
        """Replaces the labels of one data set; rows have image, sha256, label, defect, split and generated."""
        with self.database.writing() as connection:
            connection.execute(delete(Label).where(Label.data == data))
            for start in range(0, len(rows), CHUNK):
                chunk = [row | {"data": data} for row in rows[start : start + CHUNK]]
                connection.execute(insert(Label), chunk)

    def inspected(self, scoring: str) -> list[Row]:
        """Returns image, generated and id (of the last inspection with these scores) of each image of a data set."""
        last = select(func.max(Inspection.id)).join(Revision, Revision.id == Inspection.revision_id)
        last = last.where(Revision.scoring == scoring).group_by(Inspection.sha256)
        query = select(Label.image, Label.generated, Inspection.id).join(Inspection, Inspection.sha256 == Label.sha256)
        with self.database.reading() as connection:
            found = connection.execute(query.where(Inspection.id.in_(last.scalar_subquery()))).mappings()
            return [dict(row) for row in found]

    def photographs(self, scoring: str) -> list[Row]:
        """Returns the photographs of all data sets that this recipe has inspected, generated ones left out.

        Columns id (of the last inspection), unit, data, image, sha256, label, defect, split and place (of the bytes).
        """
        last = select(func.max(Inspection.id)).join(Revision, Revision.id == Inspection.revision_id)
        last = last.where(Revision.scoring == scoring).group_by(Inspection.sha256)
        columns = (Inspection.id, Inspection.unit, Image.place, Label.data, Label.image, Label.sha256, Label.label)
        query = select(*columns, Label.defect, Label.split).join(Inspection, Inspection.sha256 == Label.sha256)
        query = query.outerjoin(Image, Image.sha256 == Label.sha256).where(Label.generated == 0)
        query = query.where(Inspection.id.in_(last.scalar_subquery())).order_by(Label.data, Label.image)
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def scored(self, scoring: str) -> list[Row]:
        """Returns one row per photograph with a label or a verdict, with its last score by this recipe.

        Columns id (of the inspection), unit, image, sha256, defect_score, label (0, 1 or None: a verdict goes before
        the set's label), given (the set's own label), defect, split (None: not of a set), lot, generated, source, place
        (of the bytes) and input_reason (why it is "review" whatever its score, or None).
        Photographs whose verdict is "drop" are left out.
        """
        last = select(func.max(Inspection.id)).join(Revision, Revision.id == Inspection.revision_id)
        last = last.where(Revision.scoring == scoring, Inspection.defect_score.is_not(None))
        columns = (
            *(Inspection.id, Inspection.unit, Inspection.image, Inspection.sha256, Inspection.defect_score),
            *(Inspection.lot, Inspection.source, Label.label, Label.defect, Label.split, Label.generated, Image.place),
            Inspection.input_reason,
        )
        query = select(*columns).outerjoin(Label, Label.sha256 == Inspection.sha256)
        query = query.outerjoin(Image, Image.sha256 == Inspection.sha256)
        query = query.where(Inspection.id.in_(last.group_by(Inspection.sha256).scalar_subquery()))
        with self.database.reading() as connection:
            found = [dict(row) for row in connection.execute(query.order_by(Inspection.id)).mappings()]
            verdicts = {row["sha256"]: row for row in map(dict, connection.execute(standing()).mappings())}
        rows: dict[str, Row] = {}
        for row in found:
            verdict = verdicts.get(row["sha256"])
            word = None if verdict is None else verdict["verdict"]
            row["given"] = row["label"]
            if word == DROP or (row["label"] is None and word not in (GOOD, BAD)):
                continue
            if verdict is not None and word in (GOOD, BAD):
                row["label"] = int(word == BAD)
                row["defect"] = (verdict["defect"] or row["defect"] or "bad") if word == BAD else None
            rows[row["sha256"]] = row
        return list(rows.values())

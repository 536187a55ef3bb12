"""The review queue: an image is assigned to one browser window at a time, and is freed when that window is gone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select, update

from knowngood.review.store.database import Database, Inspection, Label, Queued, now
from knowngood.review.store.inspections import Row, as_row, either

HOLD_SECONDS = 120.0  # without a heartbeat of the window, after which an image can be assigned to another


class Queue:
    """The images that wait for a person.

    Args:
        database: Of the record.
        hold_seconds: How long an image stays assigned to a window that sends no heartbeat.
    """

    def __init__(self, database: Database, hold_seconds: float = HOLD_SECONDS) -> None:
        self.database = database
        self.hold_seconds = hold_seconds

    def add(self, rows: Sequence[tuple[int, float, str]]) -> int:
        """Adds inspections (id, priority, reason) to the queue; what was settled stays settled.

        Returns:
            How many were added, or now have a higher priority.
        """
        values = [
            {"inspection_id": number, "priority": priority, "reason": reason[:40], "passes": 0, "settled": 0}
            for number, priority, reason in rows
        ]
        changed = 0
        with self.database.writing() as connection:
            for value in values:
                add = either(connection, Queued).values(**value)
                more = {"doubt": add.excluded.doubt, "reason": add.excluded.reason}
                open_still = and_(Queued.settled == 0, Queued.priority < add.excluded.doubt)
                made = add.on_conflict_do_update(index_elements=["inspection_id"], set_=more, where=open_still)
                changed += len(connection.execute(made.returning(Queued.inspection_id)).all())
        return changed

    def take(self, holder: str, count: int = 1) -> list[Row]:
        """Assigns images to a window and returns all of its images, highest priority first.

        Args:
            holder: Name of one browser window; no other window gets these images before they are freed.
            count: How many the window then has at most.
        """
        with self.database.writing() as connection:
            until, at = now(self.hold_seconds), now()
            mine = and_(Queued.holder == holder, Queued.settled == 0)
            connection.execute(update(Queued).where(mine).values(held_until=until))
            have = int(connection.execute(select(func.count()).select_from(Queued).where(mine)).scalar_one())
            if have < count:
                free = or_(Queued.holder.is_(None), Queued.held_until < at)
                first = (
                    select(Queued.inspection_id)
                    .where(Queued.settled == 0, free)
                    .order_by(Queued.passes, Queued.priority.desc(), Queued.inspection_id)
                    .limit(count - have)
                    .with_for_update(skip_locked=True)
                )
                taken = update(Queued).where(Queued.inspection_id.in_(first))
                connection.execute(taken.values(holder=holder, held_until=until))
            columns = (Inspection.__table__, Queued.priority.label("priority"), Queued.reason, Queued.passes)
            query = select(*columns).join(Inspection, Inspection.id == Queued.inspection_id).where(mine)
            found = connection.execute(
                query.order_by(Queued.passes, Queued.priority.desc(), Queued.inspection_id)
            ).mappings()
            return [as_row(row) for row in found]

    def keep(self, holder: str) -> int:
        """Renews the assignment of a window's images; returns how many it has."""
        with self.database.writing() as connection:
            mine = update(Queued).where(Queued.holder == holder, Queued.settled == 0)
            return int(connection.execute(mine.values(held_until=now(self.hold_seconds))).rowcount)

    def give_back(self, holder: str, number: int | None = None, *, skip: bool = False) -> int:
        """Frees images of a window.

        Args:
            holder: Of the images.
            number: Only this inspection.
            skip: Put it behind all that were not skipped.

        Returns:
            How many were freed.
        """
        with self.database.writing() as connection:
            free = update(Queued).where(Queued.holder == holder, Queued.settled == 0)
            if number is not None:
                free = free.where(Queued.inspection_id == number)
            values = {"holder": None, "held_until": None}
            more = {"passes": Queued.passes + 1} if skip else {}
            return int(connection.execute(free.values(**values, **more)).rowcount)

    def waiting(self) -> frozenset[str]:
        """Returns the hashes of the photographs that wait."""
        query = select(Inspection.sha256).join(Queued, Queued.inspection_id == Inspection.id)
        with self.database.reading() as connection:
            return frozenset(connection.execute(query.where(Queued.settled == 0)).scalars())

    def counts(self) -> Row:
        """Returns how many wait, how many of them are assigned now (`held`), and how many are settled."""
        assigned = and_(Queued.settled == 0, Queued.held_until > now())
        query = select(
            func.count().filter(Queued.settled == 0).label("waiting"),
            func.count().filter(assigned).label("held"),
            func.count().filter(Queued.settled == 1).label("settled"),
        ).select_from(Queued)
        with self.database.reading() as connection:
            return dict(connection.execute(query).mappings().one())

    def reasons(self) -> list[Row]:
        """Returns how many wait for each reason, most first."""
        number = func.count().label("count")
        query = select(Queued.reason, number).where(Queued.settled == 0).group_by(Queued.reason)
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(query.order_by(number.desc())).mappings()]

    def defects(self) -> list[str]:
        """Returns the defect types that data sets name, most frequent first."""
        number = func.count()
        query = select(Label.defect).where(Label.defect.is_not(None)).group_by(Label.defect)
        with self.database.reading() as connection:
            found = connection.execute(query.order_by(number.desc(), Label.defect)).scalars()
            return [str(name) for name in found]

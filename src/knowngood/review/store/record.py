"""The record: one object with all its tables."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from knowngood.review.store.database import Beat, Database, Inspection, Label, Queued, Verdict, now
from knowngood.review.store.inspections import Inspections, either
from knowngood.review.store.labels import Labels
from knowngood.review.store.people import People
from knowngood.review.store.queue import HOLD_SECONDS, Queue
from knowngood.review.store.revisions import Revisions
from knowngood.review.store.verdicts import Verdicts


class Record:
    """The record of a station: opens the database, and creates or migrates its tables.

    Args:
        url: "sqlite:///FILE", a path, or "postgresql://...".
        hold_seconds: How long an image of the queue stays assigned to a window that sends no heartbeat.

    Raises:
        ConfigError: The address is not valid.
        StorageError: The database cannot be opened.
    """

    def __init__(self, url: str | Path, hold_seconds: float = HOLD_SECONDS) -> None:
        self.database = Database(url)
        self.inspections = Inspections(self.database)
        self.verdicts = Verdicts(self.database)
        self.queue = Queue(self.database, hold_seconds)
        self.people = People(self.database)
        self.revisions = Revisions(self.database)
        self.labels = Labels(self.database)

    def state(self) -> tuple[int, ...]:
        """Returns a few numbers that change whenever an inspection, a verdict, a label or a queue entry is added."""
        newest = [func.coalesce(func.max(table.id), 0) for table in (Inspection, Verdict, Label)]
        counts = [select(func.count()).select_from(Label), select(func.count()).where(Queued.settled == 0)]
        columns = [select(one).scalar_subquery() for one in newest] + [one.scalar_subquery() for one in counts]
        with self.database.reading() as connection:
            return tuple(int(value) for value in connection.execute(select(*columns)).one())

    def beat(self, station: str) -> None:
        """Writes a station's heartbeat, which shows that the record can be written.

        Raises:
            StorageError: It cannot.
        """
        with self.database.writing() as connection:
            made = either(connection, Beat).values(station=station, at=now())
            connection.execute(made.on_conflict_do_update(index_elements=["station"], set_={"at": made.excluded.at}))

    def close(self) -> None:
        """Closes all connections."""
        self.database.close()

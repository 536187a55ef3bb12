"""The whole record behind one name."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from knowngood.review.store.database import Beat, Database, Inspection, Label, Queued, Verdict, now
from knowngood.review.store.inspections import Inspections, either
from knowngood.review.store.labels import Labels
from knowngood.review.store.people import People
from knowngood.review.store.queue import HELD, Queue
from knowngood.review.store.revisions import Revisions
from knowngood.review.store.verdicts import Verdicts


class Record:
    """Everything that is kept: opens the database and makes what it lacks.

    Args:
        url: "sqlite:///FILE", a path, or "postgresql://...".
        held: Seconds that an image of the queue stays with a holder who gives no sign of life.

    Raises:
        ConfigError: The address is none.
        StorageError: The database cannot be opened.
    """

    def __init__(self, url: str | Path, held: float = HELD) -> None:
        self.database = Database(url)
        self.inspections = Inspections(self.database)
        self.verdicts = Verdicts(self.database)
        self.queue = Queue(self.database, held)
        self.people = People(self.database)
        self.revisions = Revisions(self.database)
        self.labels = Labels(self.database)

    def state(self) -> tuple[int, ...]:
        """Returns a few numbers that change whenever something is inspected, said, labelled or queued."""
        newest = [func.coalesce(func.max(table.id), 0) for table in (Inspection, Verdict, Label)]
        counts = [select(func.count()).select_from(Label), select(func.count()).where(Queued.settled == 0)]
        columns = [select(one).scalar_subquery() for one in newest] + [one.scalar_subquery() for one in counts]
        with self.database.reading() as connection:
            return tuple(int(value) for value in connection.execute(select(*columns)).one())

    def beat(self, station: str) -> None:
        """Writes a station's sign of life, which shows that the record can be written.

        Raises:
            StorageError: It cannot.
        """
        with self.database.writing() as connection:
            made = either(connection, Beat).values(station=station, at=now())
            connection.execute(made.on_conflict_do_update(index_elements=["station"], set_={"at": made.excluded.at}))

    def close(self) -> None:
        """Gives all connections back."""
        self.database.close()

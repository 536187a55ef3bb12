"""The whole record behind one name."""

from __future__ import annotations

from pathlib import Path

from knowngood.review.store.inspections import Inspections
from knowngood.review.store.labels import Labels
from knowngood.review.store.opening import Database
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

    def close(self) -> None:
        """Gives all connections back."""
        self.database.close()

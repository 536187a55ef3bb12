"""What a worker on a cluster does for `predict`: opens the recipe once, scores one part after the other."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from knowngood.errors import RecipeError
from knowngood.recipe.cascade.opening import opened
from knowngood.recipe.cluster.listing import items_of
from knowngood.recipe.engine.pipeline import Engine
from knowngood.recipe.predicting import SCHEMA, row_of
from knowngood.recipe.runtimes.choosing import Scoring
from knowngood.scale.workers import PartWorker, Task, unseen


@dataclass(frozen=True, kw_only=True)
class ScoringTask(Task):
    """What every worker is told.

    Attributes:
        recipe: Folder of the recipe.
        runtime: Name of the runtime; "auto" for the recipe's cascade.
        revision: Of recipe and graph, as the machine that asks sees them.
        any_product: Whether photographs are not compared with those that the recipe learned from.
    """

    recipe: str
    runtime: str
    revision: str
    any_product: bool = False


class PartScorer(PartWorker[ScoringTask]):
    """Scores parts."""

    _opened: Scoring | None = None

    def rows_of(self, number: int) -> pl.DataFrame:
        """Returns the rows of a part, with the columns of `knowngood.predict`."""
        scoring = self._scoring()
        engine = Engine(scoring, workers=self.task.cores)
        made = [row_of(one, scoring) for one in engine.run(items_of(Path(self.task.out), number))]
        frame = pl.DataFrame(made, schema=SCHEMA)
        if frame["sha256"].null_count() == len(frame):
            self.refuse_unreadable(number, str(frame["error"][0]))
        return frame

    def _scoring(self) -> Scoring:
        if self._opened is None:
            if not Path(self.task.recipe).exists():
                raise unseen(f"recipe {self.task.recipe}", "RECIPE")
            task = self.task
            found = opened(task.recipe, task.runtime, threads=task.cores, any_product=task.any_product)
            if found.revision != self.task.revision:
                raise RecipeError(
                    f"{self.task.recipe} is {found.revision} on {socket.gethostname()}, not {self.task.revision}.",
                    expected="the same recipe and exports on all machines",
                    fix="Put the recipe on storage that all of them share.",
                )
            self._opened = found
        return self._opened

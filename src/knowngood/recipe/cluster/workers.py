"""What a worker on a cluster does: opens the recipe once, scores one part after the other, writes its rows whole."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from knowngood import errors
from knowngood.errors import DataError, KnownGoodError, RecipeError
from knowngood.recipe.cascade.opening import opened
from knowngood.recipe.cluster.parts import begun, items_of, rows_file
from knowngood.recipe.engine.pipeline import Engine
from knowngood.recipe.predicting import SCHEMA, row_of, write_table
from knowngood.recipe.runtimes.choosing import Scoring


@dataclass(frozen=True)
class Task:
    """What every worker is told.

    Attributes:
        out: Folder of the parts.
        recipe: Folder of the recipe.
        runtime: Name of the runtime; "auto" for the recipe's cascade.
        revision: Of recipe and graph, as the machine that asks sees them.
        cores: How many threads a worker uses.
        host: Name of the machine that asks.
    """

    out: str
    recipe: str
    runtime: str
    revision: str
    cores: int
    host: str


@dataclass(frozen=True)
class Told:
    """What is said of a part that is done, or of why it cannot be.

    Attributes:
        part: Its number.
        images: Rows.
        failed: Kind of the error; empty where all went well.
        what: Of the error.
        expected: Of the error.
        fix: Of the error.
    """

    part: int
    images: int = 0
    failed: str = ""
    what: str = ""
    expected: str = ""
    fix: str = ""

    def checked(self) -> Told:
        """Returns itself.

        Raises:
            KnownGoodError: What the worker came upon. It travels as words: an exception would travel as a pickle.
        """
        if self.failed:
            kind = getattr(errors, self.failed, KnownGoodError)
            raise kind(self.what, expected=self.expected or None, fix=self.fix or None)
        return self


class PartScorer:
    """Scores parts; Ray Data keeps one a worker.

    Args:
        task: What to do.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._opened: Scoring | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what is said of the parts numbered batch["part"]: a column an attribute of `Told`."""
        told = [asdict(self.told_of(int(number))) for number in batch["part"]]
        return {name: np.array([one[name] for one in told]) for name in told[0]}

    def told_of(self, number: int) -> Told:
        """Returns what is said of a part, which is scored unless it is whole already."""
        try:
            return Told(number, self._scored(number))
        except KnownGoodError as error:
            return Told(number, 0, type(error).__name__, error.what, error.expected or "", error.fix or "")

    def _scored(self, number: int) -> int:
        out, target = Path(self.task.out), rows_file(Path(self.task.out), number)
        if target.exists():  # a worker that wrote it was lost before it could say so
            return int(pl.scan_parquet(target).select(pl.len()).collect().item())
        if not out.is_dir():
            raise self._unseen(f"folder {out}", "--out")
        begun(out, number)
        engine = Engine(self._scoring(), workers=self.task.cores)
        made = [row_of(one, self.task.revision) for one in engine.run(items_of(out, number))]
        frame = pl.DataFrame(made, schema=SCHEMA)
        if frame["sha256"].null_count() == len(frame) and socket.gethostname() != self.task.host:
            raise DataError(
                f"Not one photograph of part {number} can be read on {socket.gethostname()}: {frame['error'][0]}",
                expected="photographs that every machine of the cluster sees under the same path",
                fix="Put them on shared storage, or name URLs.",
            )
        write_table(frame, target)
        return len(frame)

    def _scoring(self) -> Scoring:
        if self._opened is None:
            if not Path(self.task.recipe).exists():
                raise self._unseen(f"recipe {self.task.recipe}", "RECIPE")
            found = opened(self.task.recipe, self.task.runtime, threads=self.task.cores)
            if found.revision != self.task.revision:
                raise RecipeError(
                    f"{self.task.recipe} is {found.revision} on {socket.gethostname()}, not {self.task.revision}.",
                    expected="the same recipe and exports on all machines",
                    fix="Put the recipe on storage that all of them share.",
                )
            self._opened = found
        return self._opened

    def _unseen(self, what: str, flag: str) -> RecipeError:
        return RecipeError(
            f"The worker on {socket.gethostname()} does not see the {what}.",
            expected="a path that every machine of the cluster sees",
            fix=f"Put it on shared storage and give that path as {flag}.",
        )

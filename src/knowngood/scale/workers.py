"""What every worker on a cluster does: one part after the other, rows written whole, errors returned as text."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl

from knowngood import errors
from knowngood.environment import versions_of
from knowngood.errors import ConfigError, DataError, KnownGoodError, RecipeError
from knowngood.scale.parts import note_attempt, rows_file
from knowngood.tables import write_table

# What decides the last bit of a row, besides what makes it.
_PACKAGES = (
    "knowngood",
    "torch",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "polars",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
)


@lru_cache(1)
def versions() -> dict[str, str]:
    """Returns package to version of what must be the same on all machines."""
    return versions_of(*_PACKAGES)


def same_versions(wanted: Mapping[str, str]) -> None:
    """Checks whether this machine has the versions of the one that asks.

    Raises:
        ConfigError: It has others.
    """
    here = versions()
    for name in sorted({*wanted, *here}):
        if wanted.get(name) != here.get(name):
            raise ConfigError(
                f"The worker on {socket.gethostname()} has {name} {here.get(name)}, this machine {wanted.get(name)}.",
                expected="the same versions on all machines",
                fix="Install the same on all of them: pip install -c constraints.txt.",
            )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every worker needs to know.

    Attributes:
        out: Folder of the parts.
        cores: How many threads a worker uses.
        host: Name of the machine that asks.
        versions: Of packages there.
    """

    out: str
    cores: int
    host: str = field(default_factory=socket.gethostname)
    versions: dict[str, str] = field(default_factory=versions)


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class PartStatus:
    """The status of a part: how many rows are done, or why it cannot be done.

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

    @classmethod
    def of(cls, part: int, error: KnownGoodError) -> PartStatus:
        """Returns the status of a part that ended in an error."""
        return cls(part, 0, type(error).__name__, error.what, error.expected or "", error.fix or "")

    def checked(self) -> PartStatus:
        """Returns itself.

        Raises:
            KnownGoodError: What the worker came upon. It travels as words: an exception would travel as a pickle.
        """
        if self.failed:
            kind = getattr(errors, self.failed, KnownGoodError)
            raise kind(self.what, expected=self.expected or None, fix=self.fix or None)
        return self


class PartWorker(ABC, Generic[T]):
    """Does parts; Ray Data keeps one a worker.

    Args:
        task: What to do.
    """

    def __init__(self, task: T) -> None:
        self.task = task

    @abstractmethod
    def rows_of(self, number: int) -> pl.DataFrame:
        """Returns the rows of a part.

        Raises:
            KnownGoodError: They cannot be made here.
        """

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the status of the parts numbered batch["part"], a column for each attribute of `PartStatus`."""
        statuses = [asdict(self.status_of(int(number))) for number in batch["part"]]
        return {name: np.array([one[name] for one in statuses]) for name in statuses[0]}

    def status_of(self, number: int) -> PartStatus:
        """Does a part unless it is complete already, and returns its status."""
        try:
            return PartStatus(number, self._done(number))
        except KnownGoodError as error:
            return PartStatus.of(number, error)

    def _done(self, number: int) -> int:
        out, target = Path(self.task.out), rows_file(Path(self.task.out), number)
        if target.exists():  # a worker that wrote it was lost before it could say so
            return int(pl.scan_parquet(target).select(pl.len()).collect().item())
        same_versions(self.task.versions)
        if not out.is_dir():
            raise unseen(f"folder {out}", "--out")
        note_attempt(out, number)
        frame = self.rows_of(number)
        write_table(frame, target)
        return len(frame)

    def refuse_unreadable(self, number: int, why: str) -> None:
        """Refuses a part of which nothing can be read, unless this is the machine that listed it.

        Raises:
            DataError: It is another.
        """
        if socket.gethostname() != self.task.host:
            raise DataError(
                f"Not one photograph of part {number} can be read on {socket.gethostname()}: {why}",
                expected="photographs that every machine of the cluster sees under the same path",
                fix="Put them on shared storage.",
            )


def unseen(what: str, flag: str) -> RecipeError:
    """Returns the error of something that is not on the worker's machine."""
    return RecipeError(
        f"The worker on {socket.gethostname()} does not see the {what}.",
        expected="a path that every machine of the cluster sees",
        fix=f"Put it on shared storage and give that path as {flag}.",
    )

"""Scores photographs on a Ray cluster: listed in parts, from any place that `predict` reads, a file of rows a part."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from knowngood.data.loading import refuse_in_data
from knowngood.errors import DataError, RecipeError
from knowngood.files import check_writable
from knowngood.progress import track
from knowngood.recipe.archives import members
from knowngood.recipe.bundle import ERROR, Recipe
from knowngood.recipe.cascade import CascadeRuntime
from knowngood.recipe.folder import place_of
from knowngood.recipe.inputs import Item, item_at, stream
from knowngood.recipe.options import EngineConfig
from knowngood.recipe.predicting import SCHEMA, folders_among, row_of, say_unchecked
from knowngood.recipe.remote import is_url
from knowngood.recipe.session import AUTO, Session, announce, open_session
from knowngood.scale.connecting import look
from knowngood.scale.parts import list_of, prepared
from knowngood.scale.spreading import Spread, spread
from knowngood.scale.workers import PartWorker, Task, unseen
from knowngood.tables import write_table

if TYPE_CHECKING:
    from knowngood.recipe.signing import Keys

_LISTED = {"image": pl.String(), "place": pl.Binary(), "member": pl.Int64()}


def listed(images: str | Path | Sequence[str | Path], part_size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yields the list of each part, and how many photographs it has.

    Args:
        images: As in `knowngood.predict`.
        part_size: Photographs a part.

    Raises:
        DataError: There is no photograph.
    """
    items = track(stream(images, contents=False).items, "list")
    while some := list(islice(items, part_size)):
        rows = [(one.name, _stored(one.place), one.member) for one in some]
        yield pl.DataFrame(rows, schema=_LISTED, orient="row"), len(rows)


def items_of(out: Path, number: int) -> Iterator[Item]:
    """Yields the photographs of a part.

    Args:
        out: Folder of the parts.
        number: Of the part, from 0.

    Raises:
        DataError: An archive, or the list itself, cannot be read here.
    """
    rows = list_of(out, number).rows()
    at = 0
    while at < len(rows):
        name, where, member = rows[at]
        place = os.fsdecode(where)
        if member is None:
            yield item_at(name, place)
            at += 1
            continue
        for number_there, (_, read) in enumerate(members(Path(place), member), member):
            if number_there == rows[at][2]:
                yield Item(rows[at][0], read, place, number_there)
                at += 1
                if at == len(rows) or rows[at][1] != where or rows[at][2] is None:
                    break
        else:
            raise DataError(
                f"The archive {place} has fewer photographs than were listed.", fix="--fresh lists it anew."
            )


def _stored(place: str | Path) -> bytes:
    """Returns a place so that every machine and every file name is served: absolute, as bytes."""
    return os.fsencode(place if is_url(place) else os.path.abspath(place))


AT_ONCE = 10_000_000  # rows whose hashes are looked at in one pass: some 2 GB


def agreed(files: list[Path], count: int, at_once: int = AT_ONCE) -> int:
    """Gives photographs with equal bytes the higher of their scores, and the decision that goes with it.

    Workers on processors of different kinds may round the last bits differently. Parts without such photographs are not
    touched; others are replaced whole. A second call changes nothing.

    Args:
        files: Of rows; columns of `knowngood.predict`.
        count: How many rows there are.
        at_once: Rows whose hashes are compared at once; what is beyond is done in further passes.

    Returns:
        How many files were changed.
    """
    passes = -(-count // at_once)
    rows = pl.scan_parquet(files).select("sha256", "defect_score", "decision").drop_nulls("defect_score")
    share = pl.col("sha256").str.slice(0, 7).str.to_integer(base=16) % passes
    several: list[pl.DataFrame] = []
    for number in range(passes):
        some = rows if passes == 1 else rows.filter(share == number)
        apart = (
            some.group_by("sha256")
            .agg(
                highest=pl.col("defect_score").max(),
                lowest=pl.col("defect_score").min(),
                of_highest=pl.col("decision").sort_by("defect_score").last(),
            )
            .filter(pl.col("highest") != pl.col("lowest"))
        )
        several.append(apart.collect(engine="streaming"))
    right = pl.concat(several)
    return sum(_mended(file, right) for file in files) if len(right) else 0


def _mended(file: Path, right: pl.DataFrame) -> bool:
    frame = pl.read_parquet(file)
    joined = frame.join(right, "sha256", "left", maintain_order="left")
    new = joined.with_columns(
        defect_score=pl.coalesce("highest", "defect_score"), decision=pl.coalesce("of_highest", "decision")
    ).select(list(SCHEMA))
    if new.equals(frame):
        return False
    write_table(new, file)
    return True


@dataclass(frozen=True, kw_only=True)
class ScoringTask(Task):
    """What every worker receives.

    Attributes:
        recipe: Folder of the recipe.
        runtime: Name of the runtime; "auto" for the recipe's cascade.
        revision: Of recipe and graph, as the machine that asks sees them.
        any_product: Whether the input check is off.
    """

    recipe: str
    runtime: str
    revision: str
    any_product: bool = False


class PartScorer(PartWorker[ScoringTask]):
    """Scores parts."""

    _opened: Session | None = None

    def rows_of(self, number: int) -> pl.DataFrame:
        """Returns the rows of a part, with the columns of `knowngood.predict`."""
        session = self._session()
        items = items_of(Path(self.task.out), number)
        made = [row_of(one, session) for one in session.stream(items, workers=self.task.cores)]
        frame = pl.DataFrame(made, schema=SCHEMA)
        if frame["sha256"].null_count() == len(frame):
            self.refuse_unreadable(number, str(frame["error"][0]))
        return frame

    def _session(self) -> Session:
        if self._opened is None:
            if not Path(self.task.recipe).exists():
                raise unseen(f"recipe {self.task.recipe}", "RECIPE")
            task = self.task
            found = open_session(task.recipe, task.runtime, threads=task.cores, any_product=task.any_product)
            if found.revision != self.task.revision:
                raise RecipeError(
                    f"{self.task.recipe} is {found.revision} on {socket.gethostname()}, not {self.task.revision}.",
                    expected="the same recipe and exports on all machines",
                    fix="Put the recipe on storage that all of them share.",
                )
            self._opened = found
        return self._opened


_ASKED = EngineConfig(engine="ray")


@dataclass(frozen=True)
class ClusterRun(Spread):
    """What a prediction on a cluster left.

    Attributes:
        images: Rows; they have the columns of `knowngood.predict`.
        counts: Decision to images, and "unreadable".
    """

    images: int
    counts: dict[str, int]


def predict_on_cluster(
    recipe: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    config: EngineConfig = _ASKED,
    *,
    runtime: str = AUTO,
    fresh: bool = False,
    signed_by: Keys | None = None,
) -> ClusterRun:
    """Scores photographs on a Ray cluster, a Parquet file a part; the same call goes on after a kill.

    Args:
        recipe: Folder that all machines of the cluster see.
        images: As in `knowngood.predict`; what they name must be seen by all machines too.
        out: Folder for the parts, seen by all machines.
        config: Address, size of a part, cores a worker.
        runtime: As in `knowngood.predict`.
        fresh: Score everything again.
        signed_by: Public keys of which one must have signed the recipe, as in `Recipe.load`.

    Raises:
        ConfigError: No cluster answers, workers have other versions, the folder belongs to something else.
        DataError: There is no photograph, the workers do not see them, or a part kills its workers.
        MissingExtraError: Ray is not installed.
        RecipeError: The recipe cannot be loaded, or the workers do not see it.
        StorageError: The rows cannot be written.
    """
    refuse_in_data(out, folders_among(images))
    look(config.address)
    folder, place = Path(out).absolute(), place_of(recipe).absolute()
    check_writable(folder, folder=True)
    loaded = Recipe.load(place, signed_by=signed_by)
    session = open_session(loaded, runtime, cascade=config.cascade, any_product=config.any_product)
    announce(session)
    say_unchecked(session.recipe, config.any_product)
    revision = session.revision
    job = prepared(folder, f"rows 2, recipe {revision}", config.part, lambda: listed(images, config.part), fresh=fresh)
    chosen = AUTO if session.runtime.name == CascadeRuntime.name else session.runtime.name
    task = ScoringTask(
        out=str(folder),
        cores=config.cores,
        recipe=str(place),
        runtime=chosen,
        revision=revision,
        any_product=config.any_product,
    )
    del session  # the workers have theirs
    done = spread(PartScorer, task, job, config.address, "score")
    agreed(done.files, job.images)
    return ClusterRun(**vars(done), images=job.images, counts=_counts(done.files))


def _counts(files: list[Path]) -> dict[str, int]:
    found = pl.scan_parquet(files).group_by("decision").len().collect(engine="streaming")
    counts = dict(found.iter_rows())
    return {name: counts.get(name, 0) for name in ("accept", "review", "reject")} | {"unreadable": counts.get(ERROR, 0)}

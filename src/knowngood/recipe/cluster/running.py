"""Prediction on a cluster: parts that are not whole yet go to workers, and their rows agree in the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.errors import ConfigError
from knowngood.progress import reporter
from knowngood.recipe.bundle import place_of
from knowngood.recipe.cascade.opening import opened
from knowngood.recipe.cascade.runtime import CascadeRuntime
from knowngood.recipe.cluster.agreeing import agreed
from knowngood.recipe.cluster.config import EngineConfig
from knowngood.recipe.cluster.connecting import connected, look
from knowngood.recipe.cluster.parts import Job, missing, prepared, rows_file, swept
from knowngood.recipe.cluster.workers import PartScorer, Task, Told
from knowngood.recipe.runtimes.choosing import AUTO

BLOCKS = 10_000  # pieces that Ray Data hands out
_ASKED = EngineConfig(engine="ray")


@dataclass(frozen=True)
class ClusterRun:
    """What a prediction on a cluster left.

    Attributes:
        folder: Given as `out`; rows/*.parquet in it are one table.
        images: Rows.
        parts: Files of rows.
        taken_over: Parts of an earlier run.
        counts: Decision to images, and "unreadable".
        workers: How many the cluster had room for; 0 where nothing was left to do.
    """

    folder: Path
    images: int
    parts: int
    taken_over: int
    counts: dict[str, int]
    workers: int

    def rows(self) -> pl.LazyFrame:
        """Returns the rows, not read yet, in the order of the list; columns of `knowngood.predict`."""
        return pl.scan_parquet([rows_file(self.folder, number) for number in range(self.parts)])


def predict_on_cluster(
    recipe: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    config: EngineConfig = _ASKED,
    *,
    runtime: str = AUTO,
    fresh: bool = False,
) -> ClusterRun:
    """Scores photographs on a Ray cluster, a Parquet file a part; the same call goes on after a kill.

    Args:
        recipe: Folder that all machines of the cluster see.
        images: As in `knowngood.predict`; what they name must be seen by all machines too.
        out: Folder for the parts, seen by all machines.
        config: Address, size of a part, cores a worker.
        runtime: As in `knowngood.predict`.
        fresh: Score everything again.

    Raises:
        ConfigError: No cluster answers, the folder belongs to something else, or a part kills its workers.
        DataError: There is no photograph, or the workers do not see them.
        MissingExtraError: Ray is not installed.
        RecipeError: The recipe cannot be loaded, or the workers do not see it.
        StorageError: The rows cannot be written.
    """
    look(config.address)
    folder, place = Path(out).absolute(), place_of(recipe).absolute()
    scoring = opened(place, runtime, cascade=config.cascade)
    job = prepared(folder, images, scoring.revision, config.part_size, fresh=fresh)
    swept(folder)
    wanted, workers = missing(folder, job), 0
    chosen = AUTO if scoring.runtime.name == CascadeRuntime.name else scoring.runtime.name
    task = Task(str(folder), str(place), chosen, scoring.revision, config.worker_cores, socket.gethostname())
    del scoring  # the workers have theirs
    if wanted:
        with connected(config.address) as ray:
            workers = _spread(ray, task, job, wanted)
        swept(folder)
    if len(wanted) < job.parts:
        reporter().say(f"{job.parts - len(wanted)} of {job.parts} parts were whole before (--fresh scores them again)")
    files = [rows_file(folder, number) for number in range(job.parts)]
    agreed(files, job.images)
    return ClusterRun(folder, job.images, job.parts, job.parts - len(wanted), _counts(files), workers)


def _spread(ray: Any, task: Task, job: Job, wanted: list[int]) -> int:
    """Has the workers score parts, looks whether their rows arrived, and returns for how many workers there is room."""
    cores = [int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]]
    room = sum(have // task.cores for have in cores)
    if not room:
        raise ConfigError(
            f"--worker-cores {task.cores} is more than any machine of the cluster has.",
            expected=f"at most {max(cores, default=0)}",
        )
    to = reporter()
    bar = to.start("score", job.images)
    to.advance(bar, job.images - sum(map(job.size, wanted)))
    try:
        for told in _results(ray, task, wanted, room):
            told.checked()
            if not rows_file(Path(task.out), told.part).is_file():
                raise ConfigError(
                    f"A worker wrote part {told.part} to a {task.out} that is not the one here.",
                    expected="a folder that every machine of the cluster sees",
                    fix="Put --out on shared storage.",
                )
            to.advance(bar, told.images)
    finally:
        to.finish(bar)
    return room


def _results(ray: Any, task: Task, wanted: list[int], room: int) -> Iterator[Told]:
    """Yields what is said of each part, as it gets done."""
    from ray.data import ActorPoolStrategy

    parts = ray.data.from_items([{"part": one} for one in wanted], override_num_blocks=min(len(wanted), BLOCKS))
    scored = parts.map_batches(
        PartScorer,
        fn_constructor_args=(task,),
        batch_size=1,
        batch_format="numpy",
        num_cpus=task.cores,
        compute=ActorPoolStrategy(size=min(room, len(wanted)), max_tasks_in_flight_per_actor=2),
    )  # Ray Data starts lost workers again and repeats their parts by itself; `begun` puts an end to it
    for row in scored.iter_rows():
        yield Told(**row)


def _counts(files: list[Path]) -> dict[str, int]:
    found = pl.scan_parquet(files).group_by("decision").len().collect(engine="streaming")
    counts = dict(found.iter_rows())
    return {name: counts.get(name, 0) for name in ("accept", "review", "reject")} | {"unreadable": counts.get(None, 0)}

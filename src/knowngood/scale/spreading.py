"""Parts that are not whole yet go to workers, as many as the cluster has room for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.errors import ConfigError
from knowngood.progress import reporter
from knowngood.scale.connecting import connected
from knowngood.scale.parts import Job, missing, remove_partial, rows_file
from knowngood.scale.workers import PartStatus, PartWorker, Task

BLOCKS = 10_000  # pieces that Ray Data hands out


@dataclass(frozen=True)
class Spread:
    """What work on a cluster left.

    Attributes:
        folder: Of the parts; rows/*.parquet in it are one table.
        parts: Files of rows.
        taken_over: Parts of an earlier run.
        workers: How many the cluster had room for; 0 where nothing was left to do.
    """

    folder: Path
    parts: int
    taken_over: int
    workers: int

    @property
    def files(self) -> list[Path]:
        """Of rows, in the order of the list."""
        return [rows_file(self.folder, number) for number in range(self.parts)]

    def rows(self) -> pl.LazyFrame:
        """Returns the rows, not read yet, in the order of the list."""
        return pl.scan_parquet(self.files)


def spread(worker: type[PartWorker[Any]], task: Task, job: Job, address: str | None, title: str) -> Spread:
    """Has workers do the parts of a job that are not whole, and looks whether their rows arrived.

    Args:
        worker: What does a part.
        task: What each of them does; names the folder.
        job: Prepared in that folder.
        address: As in `connected`.
        title: Shown beside the progress bar.

    Raises:
        KnownGoodError: What a worker came upon.
        ConfigError: There is no room for a worker, or the rows are written elsewhere.
    """
    folder = Path(task.out)
    remove_partial(folder)
    wanted, workers = missing(folder, job), 0
    if wanted:
        with connected(address) as ray:
            workers = _done(ray, worker, task, job, wanted, title)
        remove_partial(folder)
    whole = job.parts - len(wanted)
    if whole:
        reporter().say(f"{whole} of {job.parts} parts were whole before")
    return Spread(folder, job.parts, whole, workers)


def room(ray: Any, cores: int) -> int:
    """Returns for how many workers with so many cores a cluster has room.

    Raises:
        ConfigError: For none.
    """
    have = [int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]]
    found = sum(some // cores for some in have)
    if not found:
        raise ConfigError(
            f"--worker-cores {cores} is more than any machine of the cluster has.",
            expected=f"at most {max(have, default=0)}",
        )
    return found


def _done(ray: Any, worker: type[PartWorker[Any]], task: Task, job: Job, wanted: list[int], title: str) -> int:
    """Returns for how many workers there was room."""
    workers = room(ray, task.cores)
    to = reporter()
    bar = to.start(title, job.images, job.images - sum(map(job.size, wanted)))
    try:
        for status in _results(ray, worker, task, wanted, workers):
            status.checked()
            if not rows_file(Path(task.out), status.part).is_file():
                raise ConfigError(
                    f"A worker wrote part {status.part} to a {task.out} that is not the one here.",
                    expected="a folder that every machine of the cluster sees",
                    fix="Put --out on shared storage.",
                )
            to.advance(bar, job.size(status.part))
    finally:
        to.finish(bar)
    return workers


def _results(
    ray: Any, worker: type[PartWorker[Any]], task: Task, wanted: list[int], workers: int
) -> Iterator[PartStatus]:
    """Yields the status of each part as it is done."""
    from ray.data import ActorPoolStrategy

    parts = ray.data.from_items([{"part": one} for one in wanted], override_num_blocks=min(len(wanted), BLOCKS))
    done = parts.map_batches(
        worker,
        fn_constructor_args=(task,),
        batch_size=1,
        batch_format="numpy",
        num_cpus=task.cores,
        compute=ActorPoolStrategy(size=min(workers, len(wanted)), max_tasks_in_flight_per_actor=2),
    )  # Ray Data starts lost workers again and repeats their parts by itself; `note_attempt` ends it
    for row in done.iter_rows():
        yield PartStatus(**row)

"""What a worker says of a part: done, or why not, in words that become the same error again."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from knowngood import errors
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cluster import PartScorer, ScoringTask, listed
from knowngood.recipe.predicting import predict
from knowngood.scale.parts import prepared, rows_file


@pytest.fixture
def task(trained_run: Path, parts: Path, tmp_path: Path) -> ScoringTask:
    revision = Recipe.load(trained_run).manifest.revision
    out = tmp_path / "out"
    prepared(out, revision, 8, lambda: listed(parts / "chip", 8))
    return ScoringTask(
        out=str(out), recipe=str(trained_run), runtime="torch", revision=revision, cores=1, host="elsewhere"
    )


def test_a_part_is_scored_once(task: ScoringTask, trained_run: Path, parts: Path) -> None:
    worker = PartScorer(task)
    told = worker({"part": [0, 1]})
    assert told["images"].tolist() == [8, 7]
    assert told["failed"].tolist() == ["", ""]
    rows = pl.read_parquet([rows_file(Path(task.out), number) for number in (0, 1)])
    plain = predict(trained_run, parts / "chip", runtime="torch")
    assert rows.drop("defect_score").equals(plain.drop("defect_score"))
    assert (rows["defect_score"] - plain["defect_score"]).abs().max() < 1e-6  # type: ignore[operator]
    before = rows_file(Path(task.out), 0).stat().st_mtime_ns
    assert worker.status_of(0).checked().images == 8
    assert rows_file(Path(task.out), 0).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changed", "kind", "told"),
    [
        ({"recipe": "/nowhere"}, errors.RecipeError, "does not see the recipe /nowhere"),
        ({"out": "/nowhere"}, errors.RecipeError, "does not see the folder /nowhere"),
        ({"revision": "0123"}, errors.RecipeError, "not 0123"),
        ({"versions": {"knowngood": "0.0.9"}}, errors.ConfigError, "same versions"),
        ({"runtime": "onnxruntime"}, errors.ConfigError, "no export for onnxruntime"),
    ],
)
def test_what_goes_wrong_is_told(task: ScoringTask, changed: dict[str, Any], kind: type, told: str) -> None:
    with pytest.raises(kind, match=told) as error:
        PartScorer(replace(task, **changed)).status_of(0).checked()
    assert error.value.fix  # type: ignore[attr-defined]


def test_photographs_that_another_machine_does_not_see(task: ScoringTask, tmp_path: Path, parts: Path) -> None:
    for file in sorted((parts / "chip").iterdir())[:3]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "more"
    prepared(out, task.revision, 8, lambda: listed(sorted(tmp_path.glob("*.png")), 8))
    for file in tmp_path.glob("*.png"):
        file.unlink()
    told = PartScorer(replace(task, out=str(out))).status_of(0)
    with pytest.raises(errors.DataError, match="Not one photograph of part 0"):
        told.checked()
    assert not rows_file(out, 0).exists()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Lets this process write no file larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_costs_nothing_that_is_whole(task: ScoringTask) -> None:
    worker = PartScorer(task)
    assert worker.status_of(0).images == 8
    with full_disk(100):
        told = worker.status_of(1)
    with pytest.raises(errors.StorageError, match="The disk is full"):
        told.checked()
    assert [path.name for path in (Path(task.out) / "rows").glob("*.parquet")] == ["0000000.parquet"]
    assert worker.status_of(1).images == 7

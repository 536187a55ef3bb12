"""Prediction on a cluster of this machine: the plain engine's rows, whoever is killed; what is whole stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood.errors import ConfigError, RecipeError
from knowngood.recipe.cluster import ClusterRun, predict_on_cluster
from knowngood.recipe.options import EngineConfig
from knowngood.recipe.predicting import predict
from knowngood.scale.parts import rows_file

PART = 32
CONFIG = EngineConfig(engine="ray", part_size=PART, worker_cores=1)
ONE_PART = CONFIG.model_copy(update={"part_size": 1000})


pytestmark = pytest.mark.usefixtures("two_workers")


@pytest.fixture(scope="module")
def photographs(make_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """260, of them 20 that are copies in another part, and one that is none."""
    folder = make_set(tmp_path_factory.mktemp("many") / "many", good=160, bad=80, seed=5)
    shutil.copytree(folder / "chip", folder / "zz", ignore=lambda _, names: sorted(names)[20:])
    (folder / "zz" / "zz.png").write_text("no photograph")
    return folder


@pytest.fixture(scope="module")
def killed(
    trained_run: Path,
    photographs: Path,
    two_workers: object,
    kill_once: Callable[[Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ClusterRun, int]:
    """A run during which one of the workers is killed, and which worker that was."""
    out = tmp_path_factory.mktemp("scores") / "scores"
    killer, victims = kill_once(out)
    done = predict_on_cluster(trained_run, photographs, out, CONFIG)
    killer.join()
    return done, victims[0]


def test_a_killed_worker_costs_only_time(killed: tuple[ClusterRun, int], trained_run: Path, photographs: Path) -> None:
    done, victim = killed
    assert not Path(f"/proc/{victim}").exists()
    plain, rows = predict(trained_run, photographs), done.rows().collect()
    once = ~pl.col("sha256").is_duplicated()
    assert rows.filter(once).equals(plain.filter(once))
    assert rows.drop("defect_score").equals(plain.drop("defect_score"))
    np.testing.assert_allclose(rows["defect_score"], plain["defect_score"], atol=1e-6)
    assert done.images == len(plain) == 261
    assert done.counts["unreadable"] == 1
    assert done.workers == 2
    assert done.parts == 9
    copies = rows.filter(~once).drop_nulls("defect_score").group_by("sha256").agg(pl.col("defect_score").n_unique())
    assert copies["defect_score"].to_list() == [1] * 20
    assert sorted(path.name for path in (done.folder / "rows").iterdir()) == [f"{n:07}.parquet" for n in range(9)]


def test_only_parts_that_are_not_whole_are_scored(
    killed: tuple[ClusterRun, int], trained_run: Path, photographs: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(killed[0].folder, tmp_path / "scores"))
    wanted = killed[0].rows().collect()
    for number in range(9):
        file = rows_file(folder, number)
        pl.read_parquet(file).with_columns(error=pl.lit("kept")).write_parquet(file)
    rows_file(folder, 5).unlink()
    done = predict_on_cluster(trained_run, photographs, folder, CONFIG)
    frame = done.rows().collect()
    assert done.taken_over == 8
    fresh = [row for row, error in enumerate(frame["error"]) if error is None]
    assert fresh == list(range(5 * PART, 6 * PART))
    assert frame.drop("error").equals(wanted.drop("error"))
    again = predict_on_cluster(trained_run, photographs, folder, CONFIG)
    assert (again.taken_over, again.workers) == (9, 0)


def test_what_the_workers_do_not_see(trained_run: Path, photographs: Path, tmp_path: Path) -> None:
    handle = os.open(trained_run, os.O_RDONLY)  # a path that means something in this process only
    try:
        with pytest.raises(RecipeError, match="does not see the recipe") as told:
            predict_on_cluster(f"/proc/self/fd/{handle}", photographs / "chip", tmp_path / "scores", ONE_PART)
    finally:
        os.close(handle)
    assert "shared storage" in str(told.value)
    with pytest.raises(ConfigError, match="--worker-cores 64"):
        predict_on_cluster(trained_run, photographs, tmp_path / "more", EngineConfig(engine="ray", worker_cores=64))

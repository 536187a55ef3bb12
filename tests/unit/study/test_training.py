"""A whole training: its figures are what the scores say, nothing is learned from the test split, it repeats itself."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from knowngood import Recipe, TrainConfig, load, train
from knowngood.data.records import Records
from knowngood.errors import ConfigError
from knowngood.study.training import command_for

SMALL = TrainConfig(model="efficientnet_lite0", image_size=64)


@pytest.fixture(scope="module")
def metrics(trained_run: Path) -> dict[str, dict[str, float]]:
    document: dict[str, dict[str, float]] = json.loads((trained_run / "metrics.json").read_text())
    return document


@pytest.mark.parametrize("split", ["val", "calibration", "test"])
def test_figures_are_those_of_the_scores(trained_run: Path, metrics: dict[str, dict[str, float]], split: str) -> None:
    rows = pl.read_parquet(trained_run / "scores.parquet").filter(pl.col("split") == split)
    bad, score, told = rows["label"].to_numpy() == 1, rows["score"].to_numpy(), metrics[split]
    assert told["auroc"] == pytest.approx(roc_auc_score(bad, score))
    assert told["average_precision"] == pytest.approx(average_precision_score(bad, score))
    assert told["accuracy"] == pytest.approx(np.mean((score >= 0.5) == bad))
    rejected = score >= metrics["threshold"]["threshold"]
    assert told["escape_rate"] == pytest.approx(np.mean(~rejected[bad]))
    assert told["overkill_rate"] == pytest.approx(np.mean(rejected[~bad]))
    assert (told["n_good"], told["n_bad"]) == ((~bad).sum(), bad.sum())


def test_an_easy_defect_is_found(metrics: dict[str, dict[str, float]]) -> None:
    assert metrics["test"]["auroc"] > 0.95
    assert metrics["threshold"]["certified"] is False  # four bads prove nothing, and it says so
    assert "escape rate of" in str(metrics["threshold"]["sentence"])


def test_the_recipe_gives_the_scores_of_the_run(trained_run: Path) -> None:
    rows = pl.read_parquet(trained_run / "scores.parquet").filter(pl.col("split") == "test")
    again = [p.defect_score for p in Recipe.load(trained_run).predict(rows["path"].to_list())]
    np.testing.assert_allclose(again, rows["score"], atol=1e-4)


def same_inspector(one: Recipe, other: Recipe) -> bool:
    left, right = one.inspector.state_dict(), other.inspector.state_dict()
    equal = all(np.array_equal(left[name].numpy(), right[name].numpy()) for name in left)
    return equal and one.manifest.threshold == other.manifest.threshold


def test_the_same_call_gives_the_same_inspector(trained_run: Path, parts: Path, tmp_path: Path) -> None:
    again = train(parts, tmp_path / "again", SMALL)
    assert same_inspector(again.recipe, Recipe.load(trained_run))
    other = train(parts, tmp_path / "other", SMALL, seed=1)
    assert not same_inspector(again.recipe, other.recipe)


def test_nothing_is_learned_from_the_test_split(trained_run: Path, tmp_path: Path) -> None:
    """The labels of the test split are turned round: the inspector and its threshold stay what they were."""
    frame = pl.read_parquet(trained_run / "records.parquet")
    turned = frame.with_columns(
        label=pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.UInt8)
    )
    runs = [train(Records(f, "folder", tmp_path), tmp_path / str(i), SMALL) for i, f in enumerate((frame, turned))]
    assert same_inspector(runs[0].recipe, runs[1].recipe)
    first, second = (run.metrics["test"]["auroc"] for run in runs)
    assert first == pytest.approx(1 - second)


def test_lots_stay_together_and_given_splits_are_kept(parts: Path, tmp_path: Path) -> None:
    records = load(parts)
    lots = [f"L{number % 20}" for number in range(len(records))]
    done = train(records.with_frame(records.frame.with_columns(lot=pl.Series(lots))), tmp_path / "run", SMALL)
    placed = pl.read_parquet(done.folder / "records.parquet")
    assert placed.group_by("lot").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 20


def test_options_can_be_given_by_name_and_are_checked(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--escape-budget"):
        train(parts, tmp_path / "run", escape_budget=2)
    with pytest.raises(ConfigError, match="--nonsense"):
        train(parts, tmp_path / "run", nonsense=1)
    assert not (tmp_path / "run").exists()


def test_the_command_in_the_report_repeats_the_run(run_cli: Callable[..., object], trained_run: Path) -> None:
    start = Path("a b/w.safetensors")
    config = TrainConfig(
        model="resnet18", preset="best", pretrained=False, resplit=True, escape_budget=0.02, weights=start
    )
    words = shlex.split(command_for("my parts", Path("runs/x"), config, "folder"))
    assert words[:5] == ["knowngood", "train", "my parts", "--out", "runs/x"]
    given = dict(itertools.pairwise(words))
    assert given["--weights"] == "a b/w.safetensors"
    assert given["--escape-budget"] == "0.02"
    assert {"--no-pretrained", "--resplit"} <= set(words)
    assert "--seed" not in words
    page = (trained_run / "report.html").read_text()
    assert "knowngood train" in page
    assert "--image-size 64" in page

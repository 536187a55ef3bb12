"""A whole comparison: one table on the same test images, taken over when it grows, refused when the data changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood import CompareConfig, Recipe, compare, load
from knowngood.errors import ConfigError, DataError, UnknownNameError, WeightsError
from knowngood.experiments.compare import Compared, plan_rows, train_config
from knowngood.training.config import TrainConfig

SMALL: dict[str, Any] = {"image_size": 32, "epochs": 1, "batch_size": 16, "feature_model": "efficientnet_lite0"}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def done(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Two models with two seeds; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        out = tmp_path_factory.mktemp("compared") / "run"
        return compare(parts, out, models=("resnet18", "efficientnet_lite0"), seeds=2, limit=30, **SMALL)


def scores_of(folder: Path, row: str, seed: int) -> pl.DataFrame:
    return pl.read_parquet(folder / "models" / row / f"seed-{seed}" / "scores.parquet")


def test_figures_are_those_of_the_trainings(done: Compared) -> None:
    rows = {row["model"]: row for row in done.document["rows"]}
    for model, row in rows.items():
        figures = []
        for seed in (0, 1):
            folder = done.folder / "models" / row["key"] / f"seed-{seed}"
            metrics = json.loads((folder / "metrics.json").read_text())
            figures.append(metrics["test"]["auroc"])
            assert Recipe.load(folder).manifest.networks[0].backbone == model
        assert row["auroc"] == pytest.approx(np.mean(figures))
    assert rows["resnet18"]["weights"] == "random weights"
    assert not rows["resnet18"]["pretrained"]
    assert "efficientnet_lite0" in rows["efficientnet_lite0"]["weights"]
    assert rows["resnet18"]["auroc_ci_from"].startswith("DeLong")
    assert rows["resnet18"]["parameters"] == 11_177_538
    aucs = [row["auroc"] for row in done.document["rows"]]
    assert aucs == sorted(aucs, reverse=True)


def test_rows_share_their_splits_and_seeds_do_not(done: Compared) -> None:
    keys = [row["key"] for row in done.document["rows"]]
    splits = [
        [scores_of(done.folder, key, seed).select("image", "split").sort("image") for key in keys] for seed in (0, 1)
    ]
    for one, other in splits:
        assert one.equals(other)
    assert not splits[0][0].equals(splits[1][0])
    assert (splits[0][0]["split"] == "train").sum() == 30


def test_all_files_say_the_same(done: Compared) -> None:
    assert json.loads((done.folder / "compare.json").read_text()) == done.document
    assert pl.read_parquet(done.folder / "compare.parquet").equals(done.table)
    assert pl.read_csv(done.folder / "compare.csv").columns == done.table.columns
    page = (done.folder / "compare.html").read_text()
    for words in ("Which differences are real", "random<br>weights", "knowngood compare", "--models resnet18,"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert not (done.folder / "work").exists()


def test_a_finished_comparison_is_returned_and_a_larger_one_takes_it_over(
    done: Compared, parts: Path, tmp_path: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done.folder / "models").rglob("*") if p.is_file()}
    options = {"models": ("resnet18", "efficientnet_lite0"), "seeds": 2, "limit": 30, **SMALL}
    assert compare(parts, done.folder, **options).document == done.document
    options |= {"training_sets": ("transforms", "as-is"), "models": ("efficientnet_lite0",), "freeze": ("none", "stem")}
    more = compare(parts, done.folder, **options)
    assert len(more.table) == 4
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    again = compare(parts, done.folder, models=("resnet18", "efficientnet_lite0"), seeds=2, limit=30, **SMALL)
    for ours, theirs in zip(again.document["rows"], done.document["rows"], strict=True):
        assert ours["auroc"] == theirs["auroc"]  # back to what it was, without a training


def test_other_data_or_options_are_refused_and_nothing_is_lost(
    done: Compared, parts: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in done.folder.rglob("*.json")}
    options = {"models": ("resnet18", "efficientnet_lite0"), "seeds": 2, "limit": 30, **SMALL}
    with pytest.raises(ConfigError, match="other images or labels"):
        compare(make_set(tmp_path / "other", seed=5), done.folder, **options)
    with pytest.raises(ConfigError, match=r"other options \(epochs\)"):
        compare(parts, done.folder, **(options | {"epochs": 2}))
    assert {p: p.read_bytes() for p in done.folder.rglob("*.json")} == before


def test_wrong_names_are_told_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for options, word in (
        ({"models": ("resnet81",)}, "resnet18"),
        ({"training_sets": ("transform",)}, "transforms"),
        ({"training_sets": ("as-is+generate",)}, "generated"),
        ({"augment": "studdy"}, "studdy"),
    ):
        with pytest.raises(UnknownNameError, match=word):
            compare(nowhere, tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="--generated FOLDER"):
        compare(nowhere, tmp_path / "out", training_sets=("generated",))
    with pytest.raises(ConfigError, match="named twice"):
        compare(nowhere, tmp_path / "out", models="resnet18,resnet18")
    with pytest.raises(ConfigError, match="--image-size"):
        compare(nowhere, tmp_path / "out", image_size=7)
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_refused(make_set: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least"):
        compare(make_set(tmp_path / "few", good=5, bad=4), tmp_path / "out", models=("resnet18",), **SMALL)


def test_pretrained_can_be_required(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="resnext50_32x4d"):
        compare(parts, tmp_path / "out", models=("resnext50_32x4d",), require_pretrained=True, **SMALL)


def test_a_training_that_fails_costs_its_own_row(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn import functional

    usual, calls = functional.binary_cross_entropy_with_logits, []

    def broken_at_first(*given: Any, **more: Any) -> Any:
        calls.append(1)
        return usual(*given, **more) * (float("nan") if len(calls) == 1 else 1.0)

    monkeypatch.setattr(functional, "binary_cross_entropy_with_logits", broken_at_first)
    found = compare(parts, tmp_path / "out", models=("resnet34", "resnet18"), limit=20, **SMALL)
    assert found.table["model"].to_list() == ["resnet18"]
    assert "loss became nan" in found.document["left_out"]["resnet34.transforms"]
    assert "nothing to compare it with" in found.document["verdict"]


def test_rows_are_the_product_and_frozen_random_ones_are_left_out() -> None:
    config = CompareConfig(
        models=("resnet18", "resnet50"),
        training_sets=("as-is", "transforms"),
        freeze=("none", "all-but-head"),
        balance=("sampling", "weights", "none"),
    )
    plans, left_out = plan_rows(config, {"resnet18": False, "resnet50": True})
    assert len(plans) == 2 * 3 * (1 + 2)
    assert len(left_out) == 2 * 3
    assert len({plan.key for plan in plans}) == len(plans)
    assert "resnet50.as-is.freeze-all-but-head.balance-weights" in {plan.key for plan in plans}
    trained = train_config(config, next(p for p in plans if p.balance == "weights"), "none", 7)
    assert (trained.preset, trained.seed, trained.balance, trained.pretrained) == ("standard", 7, "weights", False)
    assert trained.learning_rate is None  # the plan knows: random weights need another rate than pretrained ones


def test_fields_shared_with_training_keep_their_defaults_and_limits() -> None:
    for name in set(TrainConfig.model_fields) & set(CompareConfig.model_fields):
        ours, theirs = CompareConfig.model_fields[name], TrainConfig.model_fields[name]
        if name not in ("freeze", "balance", "augment", "image_size"):
            assert (ours.default, ours.metadata) == (theirs.default, theirs.metadata), name
            assert ours.description


def test_records_may_be_given(parts: Path, tmp_path: Path) -> None:
    found = compare(load(parts), tmp_path / "out", models=("resnet18",), limit=16, limit_test=10, **SMALL)
    test = found.document["rows"][0]["seeds"][0]["test"]
    assert test["n_good"] + test["n_bad"] == 10
    assert found.document["rows"][0]["auroc_ci_from"].startswith("bootstrap")

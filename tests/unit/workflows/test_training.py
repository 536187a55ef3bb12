"""A whole training: its figures are what the scores say, nothing is learned from the test split, it repeats itself."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from knowngood import Recipe, TrainConfig, load, train
from knowngood.data.records import Records
from knowngood.errors import ConfigError, DataError
from knowngood.workflows.train import command_for

SMALL = TrainConfig(model="efficientnet_lite0", image_size=64)


@pytest.fixture(scope="module")
def metrics(trained_run: Path) -> dict[str, dict[str, float]]:
    document: dict[str, dict[str, float]] = json.loads((trained_run / "metrics.json").read_text())
    return document


@pytest.mark.parametrize("split", ["train", "val", "calibration", "test"])
def test_figures_are_those_of_the_scores(trained_run: Path, metrics: dict[str, dict[str, float]], split: str) -> None:
    rows = pl.read_parquet(trained_run / "scores.parquet").filter(pl.col("split") == split)
    bad, score, told = rows["label"].to_numpy() == 1, rows["out_of_fold_score"].to_numpy(), metrics[split]
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
    with pytest.raises(TypeError, match="nonsense"):
        train(parts, tmp_path / "run", nonsense=1)  # type: ignore[call-arg]
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


def test_scores_say_whether_the_machine_had_seen_the_image(
    trained_run: Path, metrics: dict[str, dict[str, float]]
) -> None:
    rows = pl.read_parquet(trained_run / "scores.parquet")
    again = [p.defect_score for p in Recipe.load(trained_run).predict(rows["path"].to_list())]
    np.testing.assert_allclose(again, rows["score"], atol=1e-4)  # of the recipe, for every image
    held = rows.filter(pl.col("split").is_in(["calibration", "test"]))
    assert held["score"].to_list() == held["out_of_fold_score"].to_list()
    learned = rows.filter(pl.col("split") == "train")
    assert learned["out_of_fold_score"].null_count() == 0
    assert (learned["score"] != learned["out_of_fold_score"]).mean() > 0.9
    assert metrics["train"]["out_of_fold"] is True
    assert metrics["train_as_fitted"]["accuracy"] == pytest.approx(
        ((learned["score"] >= 0.5) == (learned["label"] == 1)).mean()
    )


def test_verdicts_move_no_photograph(trained_run: Path, parts: Path, tmp_path: Path) -> None:
    before = dict(pl.read_parquet(trained_run / "records.parquet").select("image", "split").iter_rows())
    names = sorted(before)[::9]
    verdicts = {"image": names, "verdict": [["bad", "good"][name < "good"] for name in names[:-1]] + ["drop"]}
    pl.DataFrame(verdicts).write_csv(tmp_path / "verdicts.csv")
    done = train(parts, tmp_path / "run", SMALL, verdicts=tmp_path / "verdicts.csv")
    frame = pl.read_parquet(done.folder / "records.parquet")
    after = dict(frame.select("image", "split").iter_rows())
    assert after == {name: split for name, split in before.items() if name != names[-1]}
    assert frame.filter(pl.col("image") == names[0])["label"].item() == 0
    again = train(parts, done.folder, SMALL, verdicts=tmp_path / "run" / ".." / "verdicts.csv")
    assert again.metrics == done.metrics  # the same run, whatever the spelling of a path


def test_spelling_of_the_path_changes_nothing(
    trained_run: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(parts, tmp_path / "moved")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    first = pl.read_parquet(trained_run / "records.parquet").select("image", "split", "unit")
    done = train("../moved", tmp_path / "run", SMALL)
    assert pl.read_parquet(done.folder / "records.parquet").select("image", "split", "unit").equals(first)
    assert train(tmp_path / "moved", tmp_path / "run", SMALL).metrics == done.metrics
    table = load("../moved").frame.select(image=pl.lit("../moved/") + pl.col("image"), label="label", split="split")
    table.with_columns(pl.col("split").fill_null("")).write_csv("set.csv")
    assert (
        load("../here/set.csv").frame["image"].to_list() == load(tmp_path / "here" / "set.csv").frame["image"].to_list()
    )


def across(parts: Path, root: Path, copies: int) -> Path:
    """A set with a test split, some images of which are byte for byte in train too."""
    for kind in ("good", "chip", "scratch"):
        for number, file in enumerate(sorted((parts / kind).iterdir())):
            to = root / ("test" if number % 4 == 0 else "train") / kind / file.name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    for file in sorted((root / "train" / "good").iterdir())[:copies]:
        shutil.copy(file, root / "test" / "good" / f"again-{file.name}")
    return root


def test_what_falsifies_a_figure_is_on_top(parts: Path, tmp_path: Path, run_cli: Callable[..., object]) -> None:
    data = across(parts, tmp_path / "set", copies=5)
    answer = run_cli("train", data, "--out", tmp_path / "run", "--model", "efficientnet_lite0", "--image-size", "64")
    assert "5 images of the 28 in the test split are byte for byte in another split" in " ".join(answer.out.split())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [w["code"] for w in metrics["warnings"]] == ["duplicates-across-splits"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "never seen in training" not in page
    assert page.index("byte for byte in another split") < page.index('id="verdict"')
    clean = train(across(parts, tmp_path / "plain", copies=0), tmp_path / "other", SMALL)
    assert clean.metrics["warnings"] == []
    assert "never seen in training" in (tmp_path / "other" / "report.html").read_text()


def test_an_unreadable_test_split_is_an_error(parts: Path, tmp_path: Path) -> None:
    data = across(parts, tmp_path / "set", copies=0)
    files = sorted((data / "test").glob("*/*.png"))
    files[0].write_bytes(b"")
    done = train(data, tmp_path / "run", SMALL)
    assert [w["code"] for w in done.metrics["warnings"]] == ["unreadable-test"]
    for file in files[1:]:
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="labelled images of the split test that the source gave cannot be read"):
        train(data, tmp_path / "refused", SMALL)


def test_repeated_parts_are_told_and_what_they_change_is_measured(parts: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    for kind in ("good", "chip", "scratch"):
        (data / kind).mkdir(parents=True)
        for number, file in enumerate(sorted((parts / kind).iterdir())):
            shutil.copy(file, data / kind / file.name)
            if number < 12:  # saved again with one pixel changed
                with Image.open(file) as picture:
                    other = picture.copy()
                other.putpixel((0, 0), 0)
                other.save(data / kind / f"again_{file.name}")
    done = train(data, tmp_path / "run", SMALL)
    repeated = done.metrics["data"]["repeated_parts"]
    assert (repeated["status"], repeated["units"], repeated["images"]) == ("found", 36, 72)
    assert 0 < repeated["estimate"]["auroc_grouped"] <= 1
    assert repeated["estimate"]["auroc_suspected"] is None
    page = (done.folder / "report.html").read_text()
    assert "72 photographs show 36 parts" in page
    assert "may fall on both sides" in page
    placed = pl.read_parquet(done.folder / "records.parquet")
    assert placed.group_by("unit").agg(pl.col("split").n_unique())["split"].max() == 1
    off = train(data, tmp_path / "off", SMALL, unit_from="none")
    assert off.metrics["data"]["repeated_parts"]["status"] == "off"


def test_kinds_are_said_of_bad_photographs_that_nothing_learned_from(trained_run: Path) -> None:
    rows = pl.read_parquet(trained_run / "scores.parquet")
    said = rows.filter(pl.col("kind").is_not_null())
    wanted = rows.filter((pl.col("label") == 1) & pl.col("split").is_in(["calibration", "test"]))
    assert said["image"].to_list() == wanted["image"].to_list()
    assert set(said["kind"]) <= {"chip", "scratch", "unknown kind"}


def test_views_are_averaged_and_what_they_bring_is_told(parts: Path, tmp_path: Path) -> None:
    options = SMALL.model_copy(update={"augment": "flip", "views": 4})
    done = train(parts, tmp_path / "run", options)
    told = done.metrics["training"]["views"]
    assert told["views"] == 4
    assert told["images"] == done.metrics["calibration"]["n_good"] + done.metrics["calibration"]["n_bad"]
    assert told["AUC"] == pytest.approx(done.metrics["calibration"]["auroc"])
    assert 0 <= told["AUC with one"] <= 1

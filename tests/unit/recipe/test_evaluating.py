"""A recipe on labelled sets of every kind: what counts, what is measured, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import knowngood
from knowngood import Recipe
from knowngood.data.records import BAD, Records
from knowngood.errors import ConfigError, DataError
from knowngood.metrics.figures import auroc
from knowngood.metrics.thresholds import decide

Photograph = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def recipe(trained_run: Path) -> Recipe:
    return Recipe.load(trained_run)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, make_set: Callable[..., Path]) -> Path:
    """A set that no recipe has seen; not to be changed."""
    return make_set(tmp_path_factory.mktemp("fresh") / "fresh", good=20, bad=12, seed=99)


def test_scores_and_decisions_are_those_of_predict(recipe: Recipe, fresh: Path) -> None:
    done = recipe.evaluate(fresh)
    predicted = {Path(one.image).name: one for one in recipe.predict(fresh)}
    assert len(done.rows) == len(predicted) == 32
    for row in done.rows.iter_rows(named=True):
        one = predicted[Path(row["image"]).name]
        assert (row["defect_score"], row["decision"], row["reason"]) == (one.defect_score, one.decision, one.reason)


def test_figures_by_hand(recipe: Recipe, fresh: Path) -> None:
    done = recipe.evaluate(fresh)
    document, rows = done.document, done.rows
    labels, scores = rows["label"].to_numpy(), rows["defect_score"].to_numpy()
    assert document["basis"] == "unseen"
    assert document["seen"] == {"known": True, "count": 0, "share": 0.0}
    assert document["figures"]["auroc"] == auroc(labels, scores)
    decisions = decide(scores, recipe.thresholds, rows["reason"].to_list())
    assert document["decisions"]["escapes"]["count"] == int(((labels == BAD) & (decisions == "accept")).sum())
    assert document["decisions"]["overkill"]["count"] == int(((labels != BAD) & (decisions == "reject")).sum())
    assert sum(document["decisions"]["confusion"]["good"].values()) == 20
    assert [one["name"] for one in document["groups"]["defect"]] in (["chip", "scratch"], ["scratch", "chip"])
    assert set(document["certificate"]) == {"escape", "overkill"}
    assert set(document["figures"]["fpr_at_tpr"]) == {"0.991", "0.993", "0.995", "0.997", "1"}
    assert done.passed is None


def test_training_photographs_do_not_count(recipe: Recipe, parts: Path, trained_run: Path) -> None:
    done = recipe.evaluate(parts)
    split = pl.read_parquet(trained_run / "records.parquet").select("image", trained="split")
    rows = done.rows.join(split, on="image")
    assert (rows["seen"] == (rows["trained"] != "test")).all()
    assert ((rows["left_out"] == "seen in training") == rows["seen"]).fill_null(False).sum() == rows["seen"].sum()
    assert done.document["decisions"]["images"] == int((~rows["seen"]).sum())
    assert done.document["with_seen"]["images"] == 90
    assert str(done.document["seen"]["count"]) in done.document["sentences"][0]


def test_a_set_of_training_photographs_alone_flatters(recipe: Recipe, parts: Path, tmp_path: Path) -> None:
    seen = recipe.evaluate(parts).rows.filter("seen").group_by("label").head(4)
    for path, label in seen.select("path", "label").rows():
        folder = tmp_path / "set" / ("scratch" if label else "good")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    done = recipe.evaluate(tmp_path / "set", max_escape_rate=1.0)
    assert done.document["basis"] == "seen"
    assert done.document["decisions"]["images"] == 8
    assert "flatter" in done.document["sentences"][0]
    assert done.passed is False  # nothing is proven by what it was trained on
    assert done.document["requirements"]["checked"][0]["passed"]


def test_nobody_knows_what_a_bare_old_recipe_has_seen(recipe: Recipe, fresh: Path) -> None:
    bare = Recipe(recipe.manifest, recipe.inspector)
    document = bare.evaluate(fresh).document
    assert document["basis"] == "unknown"
    assert document["seen"] == {"known": False, "count": None, "share": None}


def test_one_class_alone(recipe: Recipe, fresh: Path) -> None:
    good = recipe.evaluate(fresh / "good").document
    assert good["figures"]["auroc"] is None
    assert good["decisions"]["escapes"]["rate"] is None
    assert good["decisions"]["goods"] == 20
    bad = recipe.evaluate(fresh / "chip", bad=["chip"]).document
    assert (bad["decisions"]["goods"], bad["decisions"]["bads"]) == (0, 6)
    assert [one["name"] for one in bad["groups"]["defect"]] == ["chip"]
    with pytest.raises(DataError) as caught:  # the name of the folder says no class
        recipe.evaluate(fresh / "scratch")
    assert "--bad 'scratch'" in str(caught.value.fix)


def test_folders_of_bads_alone(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    for name in ("chip", "scratch"):
        shutil.copytree(fresh / name, tmp_path / "bads" / name)
    assert recipe.evaluate(tmp_path / "bads", bad=["chip", "scratch"]).document["decisions"]["bads"] == 12
    shutil.move(tmp_path / "bads" / "scratch", tmp_path / "bads" / "lot 7")
    with pytest.raises(DataError, match="good"):  # nothing says that these are bad
        recipe.evaluate(tmp_path / "bads", bad=["chip"])


def test_three_photographs(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    for name in ("good/good_000.png", "good/good_001.png", "chip/chip_000.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(fresh / name, tmp_path / name)
    done = knowngood.evaluate(recipe, tmp_path, tmp_path.parent / "three")
    assert done.document["decisions"]["images"] == 3
    assert done.folder is not None
    assert (done.folder / "report.html").is_file()


def test_what_does_not_count_is_counted(recipe: Recipe, fresh: Path, tmp_path: Path, photograph: Photograph) -> None:
    place = shutil.copytree(fresh, tmp_path / "set")
    (place / "good" / "good_003.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    shutil.copy(place / "chip" / "chip_001.png", place / "chip" / "copy.png")
    (place / "unlabelled").mkdir()
    photograph(np.random.default_rng(5), bad=False).save(place / "unlabelled" / "new.png")
    Image.new("L", (96, 96), 90).save(place / "good" / "blank.png")
    done = recipe.evaluate(place, max_overkill_rate=1.0)
    document = done.document
    assert document["left_out"] == {"unreadable": 1, "without a label": 1, "copies of others": 1}
    assert document["photographs"] == len(done.rows) == 35
    assert document["decisions"]["images"] == 32
    assert document["reviewed_because"]["blank photograph"] == 1
    assert done.passed is False  # a labelled photograph that nobody has inspected
    assert "cannot be read" in document["requirements"]["problems"][0]


def test_a_golden_table_says_the_truth(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    table = tmp_path / "golden.csv"
    table.write_text("image,verdict\nchip/chip_000.png,good\ngood/good_000.png,good\ngood/good_001.png,bad\n")
    document = recipe.evaluate(fresh, golden=table).document
    assert (document["decisions"]["goods"], document["decisions"]["bads"]) == (2, 1)
    assert document["golden"] == str(table)
    flat = shutil.copytree(fresh / "chip", tmp_path / "photographs")  # a folder whose name says nothing
    table.write_text("image,verdict\nchip_000.png,bad\nchip_001.png,good\n")
    document = recipe.evaluate(flat, golden=table).document
    assert (document["decisions"]["goods"], document["decisions"]["bads"]) == (1, 1)
    table.write_text("image,verdict\nelsewhere.png,bad\n")
    with pytest.raises(DataError, match="elsewhere"):
        recipe.evaluate(fresh, golden=table)
    table.write_text("image,verdict\nchip_000.png,\n")
    with pytest.raises(DataError, match="no verdict"):
        recipe.evaluate(fresh, golden=table)


def test_lots_units_and_masks(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[:] = 255
    Image.fromarray(mask).save(tmp_path / "everywhere.png")
    table = tmp_path / "set.csv"
    with table.open("w", encoding="utf-8") as handle:
        handle.write("image,label,lot,unit,mask\n")
        for number, file in enumerate(sorted(fresh.glob("*/*.png"))):
            good = file.parent.name == "good"
            label, marked = ("good", "") if good else ("bad", tmp_path / "everywhere.png")
            handle.write(f"{file},{label},lot {number % 3},{number // 2},{marked}\n")
    document = recipe.evaluate(table).document
    assert sorted(one["goods"] + one["bads"] for one in document["groups"]["lot"]) == [10, 11, 11]
    assert document["units"]["images"] == 16
    assert document["localisation"]["on_defect"] == {
        **document["localisation"]["on_defect"],
        "count": 12,
        "units": 12,
        "rate": 1.0,
    }


def test_another_threshold_for_a_try(recipe: Recipe, fresh: Path) -> None:
    done = recipe.evaluate(fresh, accept_below=0.0, reject_from=1.0)
    assert set(done.rows["decision"]) == {"review"}
    assert done.document["recipe"]["accept_below"] == 0.0
    assert "cuts" in done.document["recipe"]["revision"]
    assert done.document["threshold"]["threshold"] == 0.0


def test_records_are_taken_as_they_are(recipe: Recipe, fresh: Path) -> None:
    records = knowngood.load(fresh)
    assert isinstance(records, Records)
    assert recipe.evaluate(records).document["decisions"] == recipe.evaluate(fresh).document["decisions"]


def test_without_labels_it_leads_to_predict(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    flat = shutil.copytree(fresh / "chip", tmp_path / "photographs")
    with pytest.raises(DataError) as caught:
        recipe.evaluate(flat)
    assert "knowngood predict" in str(caught.value.fix)
    records = knowngood.load(fresh)
    nobody = records.with_frame(records.frame.with_columns(label=pl.lit(None, pl.UInt8)))
    with pytest.raises(DataError) as caught:
        recipe.evaluate(nobody)
    assert "knowngood predict" in str(caught.value.fix)


def test_the_folder_is_whole_and_not_anothers(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = knowngood.evaluate(recipe, fresh, out, max_escape_rate=1.0)
    assert done.passed
    assert done.folder == out
    assert {one.name for one in out.iterdir()} == {"report.html", "evaluation.json", "scores.parquet"}
    document: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert document["decisions"] == done.document["decisions"]
    assert pl.read_parquet(out / "scores.parquet").equals(done.rows)
    with pytest.raises(ConfigError, match="holds an evaluation"):
        knowngood.evaluate(recipe, fresh, out)
    knowngood.evaluate(recipe, fresh, out, force=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="did not write"):
        knowngood.evaluate(recipe, fresh, tmp_path / "notes", force=True)
    with pytest.raises(ConfigError, match="inside"):
        knowngood.evaluate(recipe, fresh, fresh / "good" / "out")


def test_the_page_shows_the_answer_and_every_escape(recipe: Recipe, fresh: Path, tmp_path: Path) -> None:
    done = knowngood.evaluate(recipe, fresh, tmp_path / "out", accept_below=1.0)  # all are accepted
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "The answer" in page
    escapes = done.rows.filter((pl.col("label") == BAD) & (pl.col("decision") == "accept"))
    assert len(escapes)
    for name in escapes["image"]:
        assert Path(name).name in page
    assert "knowngood evaluate" in page


def test_limits_are_checked_before_anything_is_read(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--max-escape-rate"):
        recipe.evaluate(tmp_path / "missing", max_escape_rate=2)

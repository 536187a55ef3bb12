"""Two recipes on the same photographs: which count, the paired tests, the flipped units."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from markupsafe import escape
from scipy.stats import binomtest

import knowngood
from knowngood import Recipe, compare_recipes
from knowngood.errors import ConfigError, DataError
from knowngood.metrics.comparisons import compare_auroc
from knowngood.metrics.thresholds import proportion_interval


@pytest.fixture(scope="module")
def recipes(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and a copy with other cuts: it lets through nothing and holds back most."""
    other = Recipe.load(trained_run).with_thresholds(accept_below=0.02, reject_from=0.4)
    return trained_run / "recipe", other.save(tmp_path_factory.mktemp("other") / "recipe")


def test_only_photographs_that_neither_has_seen_count(
    recipes: tuple[Path, Path], parts: Path, trained_run: Path
) -> None:
    done = compare_recipes(*recipes, parts)
    table = pl.read_parquet(trained_run / "records.parquet")
    test = table.filter(pl.col("split") == "test")
    assert sorted(done.rows["image"]) == sorted(test["image"])
    assert done.document["left_out"] == {"seen by A": 90 - len(test), "seen by B": 90 - len(test)}
    everything = compare_recipes(*recipes, parts, all_images=True)
    assert everything.document["images"] == 90
    assert "flatter" in everything.document["sentences"][-1]


def test_the_figures_are_those_of_the_rows(recipes: tuple[Path, Path], parts: Path) -> None:
    done = compare_recipes(*recipes, parts, all_images=True)
    document, rows = done.document, done.rows
    bad = rows["label"].to_numpy() == 1
    a, b = ((rows[f"{name}_decision"] == "accept").to_numpy() for name in ("a", "b"))
    for key, part, wrong in (("escapes", bad, (a, b)), ("overkill", ~bad, (~a, ~b))):
        found = document[key]
        one, other = (mistakes[part] for mistakes in wrong)
        assert (found["a"]["count"], found["b"]["count"], found["units"]) == (one.sum(), other.sum(), part.sum())
        assert found["a"]["interval"] == list(proportion_interval(int(one.sum()), int(part.sum())))
        only_a, only_b = int((one & ~other).sum()), int((other & ~one).sum())
        assert (found["only_a"], found["only_b"]) == (only_a, only_b)
        want = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        assert found["p_value"] == pytest.approx(want)
    assert document["overkill"]["only_b"] > 0  # the fixture's second recipe holds back more
    assert document["flipped"] == int((a != b).sum()) == int(rows["flipped"].sum()) > 0
    auroc = compare_auroc(rows["label"], rows["b_score"], rows["a_score"])
    assert document["auroc"]["difference"] == pytest.approx(auroc.difference)
    assert document["auroc"]["difference"] == pytest.approx(0, abs=1e-9)  # the same networks
    more = document["overkill"]["only_b"] - document["overkill"]["only_a"]
    assert f"B holds back {more} more of {int((~bad).sum())} goods" in document["sentences"][1]
    assert document["recipes"]["a"]["runtime"] == "torch fp32"


def test_the_page_is_whole_and_shows_every_flipped_unit(
    recipes: tuple[Path, Path], parts: Path, tmp_path: Path
) -> None:
    done = compare_recipes(*recipes, parts, tmp_path / "page", all_images=True)
    page = (tmp_path / "page" / "index.html").read_text()
    text = re.sub(r"</?b>", "", page).replace("\u00a0", " ")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    for image in done.rows.filter("flipped")["image"]:
        assert f'title="{image}"' in page
    for sentence in done.document["sentences"]:
        assert str(escape(sentence)) in text
    assert json.loads((tmp_path / "page" / "compared.json").read_text()) == done.document
    assert pl.read_parquet(tmp_path / "page" / "compared.parquet").equals(done.rows)
    compare_recipes(*recipes, parts, tmp_path / "page")  # replaces its own
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something"):
        compare_recipes(*recipes, parts, tmp_path / "other")
    with pytest.raises(ConfigError, match="the data folder"):
        compare_recipes(*recipes, parts, parts / "compared")


def test_older_recipes_are_asked_through_their_run(recipes: tuple[Path, Path], parts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recipes[0].parent, run)
    (run / "recipe" / "evidence.safetensors").unlink()
    assert compare_recipes(run, recipes[1], parts).rows.height == compare_recipes(*recipes, parts).rows.height
    (run / "records.parquet").unlink()
    with pytest.raises(DataError, match="Nobody knows which photographs recipe A"):
        compare_recipes(run, recipes[1], parts)
    assert compare_recipes(run, recipes[1], parts, all_images=True).document["images"] == 90


def test_what_is_left_out_is_counted(
    recipes: tuple[Path, Path], make_set: Callable[..., Path], tmp_path: Path, parts: Path
) -> None:
    data = make_set(tmp_path / "new", good=5, bad=4, seed=9)
    shutil.copy(data / "good" / "good_000.png", data / "good" / "copy.png")
    (data / "good" / "broken.png").write_text("hello")
    shutil.copy(next((parts / "good").iterdir()), data / "good" / "seen.png")
    done = compare_recipes(*recipes, data, all_images=True)
    assert done.document["left_out"] == {"unreadable": 1, "copies of others": 1}
    assert done.document["images"] == 10
    alone = make_set(tmp_path / "alone", good=3, bad=0, seed=8)
    only_goods = compare_recipes(*recipes, alone)
    assert only_goods.document["auroc"] is None
    assert only_goods.document["escapes"]["a"] == {"count": 0, "units": 0, "rate": None, "interval": None}
    assert "no bad to compare on" in only_goods.document["sentences"][0]
    seen = tmp_path / "seen" / "good"
    seen.mkdir(parents=True)
    table = pl.read_parquet(recipes[0].parent / "records.parquet").filter(pl.col("split") == "train")
    shutil.copy(table["path"][0], seen / "one.png")
    with pytest.raises(DataError, match="No photograph is left"):
        compare_recipes(*recipes, seen.parent)


def test_words_of_small_and_equal_results() -> None:
    from knowngood.experiments.recipe_comparison import _mistakes, _paired

    none, some = np.zeros(41, bool), np.arange(41) < 5
    assert _mistakes(_paired(some, some, 0.95), "lets through", "bad") == "Both let through the same 5 of 41 bads."
    fewer = some & (np.arange(41) > 1)
    said = _mistakes(_paired(some, fewer, 0.95), "lets through", "bad")
    assert said == "B lets through 2 fewer of 41 bads (3 against 5); cannot tell it from chance: p = 0.5."
    many = np.arange(41) < 20
    assert "20 more of 41 bads (20 against 0); more than chance: p < 0.0001" in _mistakes(
        _paired(none, many, 0.95), "lets through", "bad"
    )
    others = np.roll(some, 7)
    assert "as many of 41 bads as A (5), though not the same" in _mistakes(
        _paired(some, others, 0.95), "lets through", "bad"
    )
    assert _mistakes(_paired(none[:1], none[:1], 0.95), "holds back", "good") == "Neither holds back any of 1 good."


def test_it_is_public() -> None:
    assert knowngood.compare_recipes is compare_recipes

"""A generated set is whole or gone on with, repeats itself, and never leaves the training split."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import knowngood.synthesis.writing as writing
from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.splits import Shares, groups_of, split
from knowngood.errors import ConfigError, DataError, StorageError
from knowngood.experiments.training_sets import ChangeOptions, Generated, TrainingSet
from knowngood.synthesis.generators import open_image_generator
from knowngood.synthesis.writing import training_images_of, write_set
from knowngood.workflows.generate import sample, transplant


@pytest.fixture(scope="module")
def boxed(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small photographs with a box around each dark spot, as a manifest."""
    rows = []
    for path in sorted(parts.rglob("*.png")):
        bad = path.parent.name != "good"
        ys, xs = np.nonzero(decode(path) < 40)
        box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}" if bad else None
        rows.append((str(path), "bad" if bad else "good", path.parent.name if bad else None, box))
    file = tmp_path_factory.mktemp("boxed") / "manifest.csv"
    pl.DataFrame(rows, schema=["image", "label", "defect", "box"], orient="row").write_csv(file)
    return file


@pytest.fixture(scope="module")
def made(boxed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transplant(boxed, tmp_path_factory.mktemp("made") / "set", 25).folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_lists_the_photographs_and_trains_only(made, boxed):
    records = load(made)
    new = records.frame.filter("generated")
    assert (len(records), new.height) == (115, 25)
    assert set(new["split"]) == {"train"}
    assert set(new["defect"]) == {"chip", "scratch"}
    assert new["box"].list.len().min() >= 1
    training = set(records.frame.filter(~pl.col("generated") & (pl.col("split") == "train"))["image"])
    assert set(new["made_from"]) <= training
    assert {name for names in new["also_from"] for name in names} <= training
    raw = pl.read_parquet(made / "manifest.parquet").filter("generated")
    assert raw["number"].to_list() == list(range(25))
    assert raw["facts"].str.json_decode(pl.Struct({"blend": pl.String})).struct.field("blend").unique()[0] == "poisson"


def test_each_image_can_be_made_again(made, boxed):
    divided = load(made)
    divided = divided.with_frame(divided.frame.filter(~pl.col("generated")))
    raw = pl.read_parquet(made / "manifest.parquet").filter("generated")
    again = open_image_generator("transplant", divided, int(raw["seed"][7])).make([int(raw["number"][7])])[0]
    assert np.array_equal(decode(made / raw["image"][7]), again.pixels)


def test_divided_anew_nothing_made_of_held_out_images_trains(made):
    anew = split(load(made), Shares(resplit=True), seed=5).frame
    splits = dict(anew.select("image", "split").iter_rows())
    for row in anew.filter("generated").iter_rows(named=True):
        sources = [row["made_from"], *row["also_from"]]
        assert (row["split"] == "train") == all(splits[name] == "train" for name in sources)
        assert row["split"] in ("train", None)
    assert anew.filter(pl.col("generated"))["split"].null_count() > 5
    groups = dict(zip(anew["image"], groups_of(load(made)).tolist(), strict=True))
    assert all(groups[i] == groups[m] for i, m in anew.filter("generated").select("image", "made_from").iter_rows())


def test_the_variant_leaves_out_what_shows_held_out_images(made, boxed):
    divided = split(load(boxed), seed=9)
    done = Generated().apply(TrainingSet(divided), ChangeOptions(generated=made))
    held_out = set(divided.frame.filter(pl.col("split") != "train")["image"])
    new = done.records.frame.filter("generated")
    assert 0 < new.height < 25
    assert not held_out & (set(new["made_from"]) | {name for names in new["also_from"] for name in names})
    assert "left out, made from images that are held out" in done.changes[0]


def test_a_maker_that_learned_from_test_images_is_refused(made, boxed, tmp_path):
    divided = split(load(boxed))
    raw = pl.read_parquet(made / "manifest.parquet").filter("generated").with_columns(made_from=None, also_from=None)
    (tmp_path / "manifest.parquet").parent.mkdir(exist_ok=True)
    raw = raw.with_columns(image=pl.lit(f"{made}/") + pl.col("image"))
    raw.write_parquet(tmp_path / "manifest.parquet")
    taught = training_images_of(made)
    assert taught is not None
    taught.write_parquet(tmp_path / "training_images.parquet")
    options = ChangeOptions(generated=tmp_path)
    assert Generated().apply(TrainingSet(divided), options).records.frame["generated"].sum() == 25
    with pytest.raises(DataError, match="test images here"):
        Generated().apply(TrainingSet(split(load(boxed), seed=9)), options)


def test_a_set_that_was_stopped_is_gone_on_with(made, boxed, tmp_path, monkeypatch):
    real, count = writing.write_png, 0

    def until_full(path, pixels, compression):
        nonlocal count
        count += 1
        if count > 14:
            raise OSError(28, "No space left on device")
        real(path, pixels, compression)

    monkeypatch.setattr(writing, "CHUNK", 5)
    monkeypatch.setattr(writing, "write_png", until_full)
    out = tmp_path / "set"
    with pytest.raises(StorageError, match="disk is full"):
        transplant(boxed, out, 25)
    assert not (out / "manifest.parquet").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "made").rglob("*.png")}
    monkeypatch.setattr(writing, "write_png", real)
    transplant(boxed, out, 25)
    assert digests(out) == digests(made)
    assert sum(path.stat().st_mtime_ns == then for path, then in before.items()) == 10
    assert transplant(boxed, out, 25).made == 25


def test_nothing_of_somebody_else_is_replaced(made, boxed, parts, tmp_path):
    with pytest.raises(ConfigError, match=r"other options \(count\)"):
        transplant(boxed, made, 30)
    with pytest.raises(ConfigError, match="other images"):
        transplant(boxed, made, 25, blend="feather")
    (tmp_path / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(ConfigError, match="holds no generated set"):
            transplant(boxed, tmp_path, 3, force=force)
    with pytest.raises(ConfigError, match="--count"):
        transplant(boxed, tmp_path / "none", 0)
    generator = open_image_generator("transforms", split(load(parts)))
    with pytest.raises(ConfigError, match="lies inside of the data"):
        write_set("transforms", generator, parts / "made", 2, 0, beside=split(load(parts)))
    again = tmp_path / "again"
    transplant(boxed, again, 8)
    assert transplant(boxed, again, 3, force=True).made == 3
    assert len(list(again.rglob("*.png"))) == 3


def test_a_run_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no run"):
        sample(tmp_path / "nothing", tmp_path / "out")


def test_a_set_of_version_0_1_says_what_its_generator_learned_from(tmp_path: Path) -> None:
    rows = pl.DataFrame({"image": ["a.png"], "sha256": ["0"], "label": [1]}, schema_overrides={"label": pl.UInt8})
    rows.write_parquet(tmp_path / "taught.parquet")
    known = training_images_of(tmp_path)
    assert known is not None
    assert known.equals(rows)
    (tmp_path / "nothing").mkdir()
    assert training_images_of(tmp_path / "nothing") is None

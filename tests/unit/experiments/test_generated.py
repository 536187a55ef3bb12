"""Generated images: none that was made from a held-out photograph gets into training."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.splits import split
from knowngood.errors import DataError
from knowngood.experiments.training_sets import ChangeOptions, Generated, TrainingSet, limited


@pytest.fixture(scope="module")
def divided(parts: Path) -> Records:
    return split(load(parts))


def add(divided: Records, place: Path) -> TrainingSet:
    return Generated().apply(TrainingSet(divided), ChangeOptions(generated=place))


def copies(divided: Records, folder: Path, column: str | None) -> Path:
    """One bad image of each split, changed a little, in a manifest."""
    rows = divided.frame.filter(pl.col("label") == 1).unique("split", maintain_order=True)
    (folder / "images").mkdir(parents=True)
    lines = []
    for image, path in rows.select("image", "path").iter_rows():
        name = "images/" + image.replace("/", "_")
        shutil.copy(path, folder / name)
        (folder / name).write_bytes((folder / name).read_bytes() + b"\0")  # other bytes, the same picture
        lines.append(f"{name},bad,true,{image}")
    header = f"image,label,generated,{column or 'remark'}"
    (folder / "manifest.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "manifest.csv"


@pytest.mark.parametrize("column", ["made_from", "source", "parent"])
def test_what_was_made_from_held_out_images_stays_out(divided: Records, tmp_path: Path, column: str) -> None:
    done = add(divided, copies(divided, tmp_path, column))
    new = done.records.frame.filter(pl.col("generated"))
    assert new.height == 1
    assert "1 generated images added" in done.changes[0]
    assert "3 left out" in done.changes[0]


def test_of_a_manifest_with_photographs_too_only_generated_ones_are_new(divided: Records, tmp_path: Path) -> None:
    manifest = copies(divided, tmp_path, "made_from")
    old = "\n".join(f"{path},good,false," for path in divided.frame["path"].head(5).to_list())
    manifest.write_text(manifest.read_text() + old + "\n")
    assert add(divided, manifest).records.frame["generated"].sum() == 1


def test_without_a_word_on_where_they_came_from_it_warns(divided: Records, tmp_path: Path) -> None:
    done = add(divided, copies(divided, tmp_path, None))
    assert done.records.frame["generated"].sum() == 4
    assert "not known" in done.changes[0]


def test_a_held_out_photograph_itself_stays_out(divided: Records, parts: Path) -> None:
    """Someone names the whole set as generated: what is held out is known by its bytes."""
    done = add(divided, parts)
    assert done.records.frame["generated"].sum() == len(divided.of_split("train"))


def test_a_set_with_nothing_to_read_is_refused(divided: Records, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "manifest.csv").write_text("image,label,generated\nbroken.png,bad,true\n")
    with pytest.raises(DataError, match="0 readable"):
        add(divided, tmp_path)


def test_rows_that_a_source_marks_as_generated_only_ever_train(parts: Path) -> None:
    """A manifest of offline augmentation read as the data: split and limit keep its rows in train."""
    records = load(parts)
    made = pl.Series([i % 5 == 0 for i in range(len(records))])
    marked = records.with_frame(records.frame.with_columns(generated=made))
    for seed in range(3):
        placed = limited(split(marked, seed=seed), 30, None, seed).frame
        assert set(placed.filter(pl.col("generated"))["split"].to_list()) == {"train"}

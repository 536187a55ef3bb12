"""The training set with generated images: of a StyleGAN, of offline augmentation, of any generator."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import polars as pl

from knowngood.data.loading import load
from knowngood.data.records import BAD, Records
from knowngood.data.sources import SOURCES
from knowngood.data.tabular import read_frame
from knowngood.errors import ConfigError, DataError
from knowngood.study.comparison.variants import TrainingSet, VariantOptions
from knowngood.synthesis.writing import taught_in

_PARENTS = ("made_from", "source", "parent")  # columns of a manifest that name the image one was made from


class Generated:
    """Adds images of `--generated` to the training split, marked as generated."""

    summary = "with the images of --generated added to the training split, and to no other"

    def check(self, options: VariantOptions) -> None:
        """Looks whether there is anything to add.

        Raises:
            ConfigError: `--generated` is not given.
            DataError: There is nothing there.
        """
        if options.generated is None:
            raise ConfigError(
                "The variant generated needs generated images, and there is no --generated.",
                expected="a folder of images for each defect beside good/, or a manifest with image,label",
                fix="--generated FOLDER, or leave generated out of --variants.",
            )
        if not any(source().recognises(options.generated) for _, source in SOURCES.items()):
            load(options.generated)  # says what is there, and what was expected

    def apply(self, given: TrainingSet, options: VariantOptions) -> TrainingSet:
        """Returns the set with them; one that was made from a held-out image, or is one, stays out.

        Raises:
            DataError: They cannot be read, or have no labels.
        """
        assert options.generated is not None
        both, said = with_generated(given.records, options.generated)
        return replace(given, records=both, changes=(*given.changes, said))


def with_generated(
    records: Records, place: Path, *, called: str = "generated", most: int | None = None
) -> tuple[Records, str]:
    """Adds generated images to the training split; one that was made from a held-out image, or is one, stays out.

    Args:
        records: With splits.
        place: Folder or manifest of the images.
        called: What their names begin with.
        most: How many are added at most, the first of those that may be.

    Returns:
        The larger set, and what was done in a sentence.

    Raises:
        DataError: They cannot be read, have no labels, or their maker learned from test images.
    """
    made = read_generated(place)
    frame = records.frame
    known = frame.select("image", "path", "split", "sha256")
    held_out = known.filter((pl.col("split") != "train").fill_null(True))
    names = set(held_out["image"].to_list()) | set(held_out["path"].to_list())
    leaks = pl.col("sha256").is_in(held_out["sha256"].drop_nulls().to_list()) | pl.col("parent").is_in(list(names))
    shows = pl.Series([bool(names.intersection(also or ())) for also in made["also_from"].to_list()], dtype=pl.Boolean)
    safe = (
        made.filter(~leaks.fill_null(False) & ~shows)
        .drop("parent")
        .with_columns(image=pl.lit(f"{called}/") + pl.col("image"), split=pl.lit("train"), generated=pl.lit(True))
    )
    added = safe if most is None else safe.head(most)
    bads = int((added["label"] == BAD).sum())
    said = f"{added.height} generated images added to training ({added.height - bads} good, {bads} bad)"
    if safe.height < made.height:
        said += f"; {made.height - safe.height} left out, made from images that are held out"
    elif made["parent"].null_count():
        said += _learning(place, held_out)
    return records.with_frame(pl.concat([frame, added.select(frame.columns)])), said


def _learning(place: Path, held_out: pl.DataFrame) -> str:
    """Says what is known of the images that the maker of images without parents learned from.

    Raises:
        DataError: It learned from test images.
    """
    taught = taught_in(place)
    if taught is None:
        return "; what they were made from is not known here: let it be no test images"
    seen = held_out.filter(pl.col("sha256").is_in(taught["sha256"].drop_nulls().to_list()))
    tests = int((seen["split"] == "test").sum())
    if tests:
        raise DataError(
            f"What made the images in {str(place)!r} learned from {tests} images that are test images here.",
            expected="a generator that learned from the training split of these splits",
            fix="Make them anew with the seed and the splits that they are compared with.",
        )
    return f"; their maker learned from {seen.height} held-out images (none of the test)" if seen.height else ""


def read_generated(place: Path) -> pl.DataFrame:
    """Returns the records table of the generated images with one more column, the image each was made from.

    Of a manifest that says which of its images are generated, the others are not new and are passed over.

    Raises:
        DataError: They cannot be read, or have no labels.
    """
    found: Records = load(place).usable()
    if found.frame["generated"].any():
        found = found.with_frame(found.frame.filter("generated"))
    unlabelled = found.counts()["unlabelled"]
    if not len(found) or unlabelled:
        raise DataError(
            f"Of the {len(found)} readable images in {str(place)!r}, {unlabelled} have no label.",
            expected="generated images with a label each",
            fix="Put them into folders named good or after their defect, or name them in a manifest with image,label.",
        )
    return found.frame.join(_parents(place), on="image", how="left", maintain_order="left")


def _parents(place: Path) -> pl.DataFrame:
    """Reads which image each was made from, where the set has a manifest that says so."""
    nothing = pl.DataFrame(schema={"image": pl.String, "parent": pl.String})
    files = [place] if place.is_file() else [place / "manifest.csv", place / "manifest.parquet"]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return nothing
    raw = read_frame(file)
    column = next((name for name in _PARENTS if name in raw.columns), None)
    if column is None:
        return nothing
    paths = pl.Series("image", [os.path.normpath(str(name)) for name in raw["image"].to_list()], dtype=pl.String)
    called = raw["known_as"].cast(pl.String).fill_null(paths) if "known_as" in raw.columns else paths
    both = pl.concat([called, paths]).alias("image")  # a source may call an image by either name
    return pl.DataFrame({"image": both, "parent": pl.concat([raw[column].cast(pl.String)] * 2)}).unique("image")

"""The sets that made images are judged against: real bads that their maker knew, and others, goods, blurred bads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import decode
from knowngood.data.loading import inspected
from knowngood.data.processes import write_png
from knowngood.data.records import BAD, GOOD, Records, table
from knowngood.errors import DataError, ImageError
from knowngood.files import storage_errors

Pixels: TypeAlias = npt.NDArray[np.uint8]
LEAST = 5  # real bads that the maker did not know: fewer say nothing about likeness
_GOODS = 1000  # a reference point needs no more
BLUR = 0.04  # standard deviation of the blur, share of the shorter side


@dataclass(frozen=True)
class Sets:
    """What is compared. Test images are in none of them.

    Attributes:
        made: The made images.
        known: Real bads that the maker learned from.
        unseen: Real bads that it did not learn from: the measure of likeness.
        good: Real good images.
        notes: How they came about.
    """

    made: Records
    known: Records
    unseen: Records
    good: Records
    notes: tuple[str, ...]


def sets_of(made: Records, divided: Records, taught: pl.DataFrame | None, most: int, seed: int) -> Sets:
    """Finds the sets.

    Args:
        made: Made images, labelled; only the bad ones are judged.
        divided: Photographs with splits; test images are left out.
        taught: What the maker learned from; None takes the whole training split for it.
        most: Images of each kind.
        seed: Which are drawn where there are more.

    Raises:
        DataError: No made image is bad, or too few real bads were kept from the maker.
    """
    frame = divided.frame.filter(
        ~pl.col("generated") & pl.col("split").is_in(["train", "val", "calibration"]) & pl.col("error").is_null()
    )
    bads = frame.filter(pl.col("label") == BAD)
    learned = pl.col("split") == "train" if taught is None else pl.col("sha256").is_in(taught["sha256"].to_list())
    known, unseen = bads.filter(learned), bads.filter(~learned)
    shown = made.frame.filter(pl.col("label") == BAD)
    if not shown.height:
        raise DataError("None of the made images is labelled bad.", expected="made bad images")
    if taught is not None and bads.height and not known.height:
        raise DataError(
            "The made images were made of other photographs: none of these real bads taught their maker.",
            expected="the photographs, and the splits and --seed, that they were made with",
        )
    if unseen.height < LEAST or known.height < 2:
        raise DataError(
            f"Of {bads.height} real bad images outside of the test {known.height} taught the maker and {unseen.height} "
            "did not.",
            expected=f"at least 2 and {LEAST}: likeness is measured on real bads that the maker did not see",
            fix="A larger --val and --calibration, for the maker's training too; or the splits that it was made with.",
        )
    whose = unseen["split"].unique().sort().to_list()
    notes = [f"Likeness is measured against {unseen.height} real bads that the maker did not see ({', '.join(whose)})."]
    if taught is None:
        notes.append("What the maker learned from is not written down: the whole training split is taken for it.")
    goods = frame.filter((pl.col("label") == GOOD) & ~learned)
    return Sets(
        made.with_frame(_some(shown, most, seed)),
        divided.with_frame(_some(known, most, seed)),
        divided.with_frame(_some(unseen, most, seed)),
        divided.with_frame(_some(goods, min(most, _GOODS), seed)),
        (*notes, "No test image was looked at for this."),
    )


def _some(frame: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    if frame.height <= most:
        return frame
    chosen = np.sort(np.random.default_rng(seed).permutation(frame.height)[:most])
    return frame.sort("image")[chosen]


def blurred(pixels: Pixels) -> Pixels:
    """Returns a picture that is clearly too blurred: what a made one has to be better than."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), BLUR * min(pixels.shape[:2])), np.uint8)


def sized(height: int, width: int) -> Callable[[Pixels], Pixels]:
    """Returns what brings a picture to a size, area averages."""

    def change(pixels: Pixels) -> Pixels:
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    return change


def changed(records: Records, change: Callable[[Pixels], Pixels], folder: Path) -> Records:
    """Returns the same images changed, written as PNG into a folder; those that cannot be decoded are left out."""
    rows: dict[str, list[object]] = {"image": [], "path": [], "label": [], "defect": []}
    with storage_errors(folder):
        for number, row in enumerate(records.frame.iter_rows(named=True)):
            try:
                pixels = decode(row["path"])
            except ImageError:
                continue
            target = folder / f"{number:06d}.png"
            write_png(target, change(pixels), 1)
            for name, value in (("image", row["image"]), ("path", os.fspath(target.absolute()))):
                rows[name].append(value)
            rows["label"].append(row["label"])
            rows["defect"].append(row["defect"])
    return records.with_frame(inspected(table(rows)))


def joined(parts: Mapping[str, Records]) -> Records:
    """Returns several sets as one, each image's name behind the set's: a network sees them at one size."""
    first = next(iter(parts.values()))
    frames = [
        one.frame.with_columns(image=pl.lit(f"{name}/") + pl.col("image"), split=pl.lit(None), generated=pl.lit(False))
        for name, one in parts.items()
    ]
    return first.with_frame(table(pl.concat([table(frame) for frame in frames])))

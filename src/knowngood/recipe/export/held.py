"""The photographs that an export is judged on: those of the recipe's own run, never the test split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import read_bytes
from knowngood.data.loading import load
from knowngood.data.pixels import PixelStore, store_pixels
from knowngood.data.records import Records, table
from knowngood.errors import DataError, ImageError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.manifest import RecipeManifest

SCORES = "scores.parquet"
FEWEST = 16  # training images from which the ranges of activations can be taken
MOST = 300  # more change them no longer
JUDGED = ("val", "calibration")


@dataclass(frozen=True)
class Held:
    """Photographs of a run.

    Attributes:
        store: All of them at the network's size, in the order of the rows below.
        labels: (N,) uint8, 0 good, 1 bad.
        splits: (N,) of "train", "val", "calibration".
    """

    store: PixelStore
    labels: npt.NDArray[np.uint8]
    splits: npt.NDArray[np.str_]

    def rows(self, *splits: str) -> npt.NDArray[np.int64]:
        """Returns the readable rows of splits."""
        rows = np.flatnonzero(np.isin(self.splits, splits))
        return rows[~np.isin(rows, list(self.store.failed))]


def judged_on(manifest: RecipeManifest) -> tuple[str, ...]:
    """Returns the splits that an export is judged on: those that no network of the recipe has learned from.

    A kernel head learns from the validation images too; on these its margins are not those of images to come, and a
    graph seems to stray farther from them than it does.
    """
    return ("calibration",) if manifest.kernels_alone else JUDGED


def held_images(recipe: Recipe, place: Path, data: str | Path | None, folder: Path, *, sample: bool, seed: int) -> Held:
    """Returns the calibration and validation images of a recipe's run and, for int8, some of its training images.

    Args:
        recipe: Loaded.
        place: Its folder, inside that of its run.
        data: Where the images are now, if not where they were; matched by content.
        folder: For decoded photographs.
        sample: Whether training images are wanted too.
        seed: Which of them.

    Raises:
        DataError: The run or its images are gone, or there are too few.
    """
    frame = _listed(place, data)
    judged = frame.filter(pl.col("split").is_in(list(JUDGED)))
    if not (judged["split"] == "calibration").any():
        raise DataError(
            f"The run of {place} has no calibration image with a label.",
            expected="some, since thresholds are certified on the exported graph",
            fix="Train again with a calibration split.",
        )
    if sample:
        learned = frame.filter(pl.col("split") == "train")
        if len(learned) < FEWEST:
            raise DataError(
                f"There are {len(learned)} training images to take the ranges of int8 from.",
                expected=f"at least {FEWEST}",
                fix="Use --precision fp32 or bf16, or train on more images.",
            )
        judged = pl.concat([judged, learned.sample(min(len(learned), MOST), seed=seed)])
    located = _located(judged, data)
    channels, height, width = recipe.input_shape
    records = Records(located, "run", place)
    store = store_pixels(records, folder, height, width, channels, recipe.manifest.preprocessing)
    return Held(store, located["label"].to_numpy(), np.array(located["split"].to_list()))


def _listed(place: Path, data: str | Path | None) -> pl.DataFrame:
    """Returns image, path, label, split and sha256 of the labelled images outside the test split."""
    path = place.parent / SCORES
    if path.is_file():
        frame = pl.read_parquet(path)
    elif data is not None:
        frame = load(data).usable().frame  # splits must be named in it: nothing else says what was trained on
    else:
        raise DataError(
            f"There is no {SCORES} beside {place}, so nobody knows which images were trained on.",
            expected="the folder of the run with the recipe in it",
            fix="Export from the run's folder, or give --data: a manifest with a split in every row.",
        )
    kept = frame.filter(pl.col("label").is_not_null() & pl.col("split").is_in(["train", *JUDGED]))
    if not len(kept):
        raise DataError(
            f"No image of {path if path.is_file() else data} has a label and a split.",
            expected="splits train, val and calibration",
            fix="Give --data a manifest with the column split, or export from the run's folder.",
        )
    return kept.select("image", "path", "label", "split", "sha256")


def _located(frame: pl.DataFrame, data: str | Path | None) -> pl.DataFrame:
    """Returns the table with paths at which the very same bytes lie now."""
    known: dict[str, str] = {}
    if data is not None:
        found = load(data).frame
        known = {digest: path for digest, path in found.select("sha256", "path").iter_rows() if digest}
    paths, gone = [], []
    for path, digest in frame.select("path", "sha256").iter_rows():
        there = known.get(digest) or (path if _digest(path) == digest else None)
        paths.append(there or path)
        if there is None:
            gone.append(path)
    if gone:
        raise DataError(
            f"{len(gone)} of the {len(frame)} images of the run are gone or changed, first {gone[0]!r}.",
            expected="the images that the recipe was trained and calibrated on",
            fix="Give --data with the folder where they are now.",
        )
    columns = {name: frame[name].to_list() for name in ("image", "label", "split", "sha256")}
    return table(columns | {"path": paths})


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageError:
        return None

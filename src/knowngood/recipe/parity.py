"""The gate of an export: holdout photographs of the recipe's run, never the test split, and what must agree on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import read_bytes
from knowngood.data.loading import load
from knowngood.data.pixels import PixelStore, store_pixels
from knowngood.data.records import Records, table
from knowngood.errors import DataError, ImageError
from knowngood.metrics.figures import auroc
from knowngood.metrics.thresholds import (
    BY_HAND,
    Threshold,
    Thresholds,
    choose_threshold,
    threshold_at_overkill,
    threshold_by_hand,
)
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.manifest import RecipeManifest
from knowngood.recipe.options import Tolerance

SCORES = "scores.parquet"
FEWEST = 16  # training images from which the ranges of activations can be taken
MOST = 300  # more change them no longer
HOLDOUT_SPLITS = ("val", "calibration")


@dataclass(frozen=True)
class Holdout:
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


def holdout_splits(manifest: RecipeManifest) -> tuple[str, ...]:
    """Returns the splits that an export is compared on: those that no network of the recipe was fitted on.

    An SVM head is fitted on the validation images too; on these its raw scores are not those of images to come, and a
    graph seems to stray farther from them than it does.
    """
    return ("calibration",) if manifest.frozen_only else HOLDOUT_SPLITS


def holdout_images(
    recipe: Recipe, place: Path, data: str | Path | None, folder: Path, *, sample: bool, seed: int
) -> Holdout:
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
    kept = frame.filter(pl.col("split").is_in(list(HOLDOUT_SPLITS)))
    if not (kept["split"] == "calibration").any():
        raise DataError(
            f"The run of {place} has no calibration image with a label.",
            expected="some, since thresholds are certified on the exported graph",
            fix="Train again with a calibration split.",
        )
    if sample:
        training = frame.filter(pl.col("split") == "train")
        if len(training) < FEWEST:
            raise DataError(
                f"There are {len(training)} training images to take the ranges of int8 from.",
                expected=f"at least {FEWEST}",
                fix="Use --precision fp32 or bf16, or train on more images.",
            )
        kept = pl.concat([kept, training.sample(min(len(training), MOST), seed=seed)])
    located = _located(kept, data)
    channels, height, width = recipe.input_shape
    records = Records(located, "run", place)
    store = store_pixels(records, folder, height, width, channels, recipe.manifest.preprocessing)
    return Holdout(store, located["label"].to_numpy(), np.array(located["split"].to_list()))


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
    kept = frame.filter(pl.col("label").is_not_null() & pl.col("split").is_in(["train", *HOLDOUT_SPLITS]))
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


Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]


def certified(manifest: RecipeManifest, labels: Labels, scores: Floats) -> Threshold:
    """Returns the threshold that the recipe's own budgets give on the calibration scores of another graph.

    Cuts that were set by hand stay where they are, with what these scores prove of them.

    Args:
        manifest: Of the recipe: which budget its threshold was set by, and at which confidence.
        labels: (N,) of the calibration split.
        scores: (N,) of the exported graph.

    Raises:
        CalibrationError: The class that the budget is about is missing.
    """
    was = manifest.threshold
    if was["basis"] == BY_HAND:
        return threshold_by_hand(
            labels,
            scores,
            Thresholds(was["threshold"], was["reject_from"]),
            confidence=was.get("confidence", 0.95),
            escape_budget=was.get("escape_budget"),
            overkill_budget=was.get("overkill_budget"),
        )
    if was["basis"] == "escape":
        return choose_threshold(
            labels,
            scores,
            escape_budget=was["escape_budget"],
            overkill_budget=was["overkill_budget"],
            confidence=was["confidence"],
        )
    good = scores[labels == 0]
    made = threshold_at_overkill(good, overkill=was["overkill_budget"], confidence=was["confidence"])
    review = manifest.config.get("review_overkill")
    if review is None:
        return made
    upper = threshold_at_overkill(good, overkill=review, confidence=was["confidence"]).threshold
    return replace(made, reject_from=max(made.threshold, upper))


def compared(
    manifest: RecipeManifest, threshold: Threshold, labels: Labels, before: Floats, after: Floats
) -> dict[str, Any]:
    """Returns what changed between the recipe's scores and the graph's.

    Args:
        manifest: Of the recipe.
        threshold: Certified on the graph's scores.
        labels: (N,) of images that the recipe was not fitted on.
        before: (N,) scores of the recipe.
        after: (N,) scores of the graph.
    """
    bad, cut, new = labels == 1, manifest.threshold["threshold"], threshold.threshold
    apart = np.abs(after - before)

    def at(scores: Floats, value: float) -> dict[str, Any]:
        over = None if bad.all() else float((scores[~bad] >= value).mean())
        return {"threshold": value, "escapes": int((scores[bad] < value).sum()), "overkill": over}

    both = bool(bad.any() and not bad.all())
    return {
        "images": len(labels),
        "goods": int((~bad).sum()),
        "bads": int(bad.sum()),
        "score_difference": {"mean": float(apart.mean()), "max": float(apart.max())},
        "auc": {"before": auroc(labels, before), "after": auroc(labels, after)} if both else None,
        "recipe_at_its_threshold": at(before, cut),
        "graph_at_the_recipes_threshold": at(after, cut),
        "graph_at_its_own_threshold": at(after, new),
        "changed_decisions": int(((before >= cut) != (after >= new)).sum()),
    }


def likeness(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float | None:
    """Returns the correlation of maps (N, h, w), each less its own mean, all together; None where all are even.

    A map that is nearly even, as that of a good part, counts little: what it has of ups and downs is noise.
    The same of raw scores (1, N): noise that lets them correlate by c with what they were moves goods and bads nearer
    together by that factor, in units of their spread, whatever happened to fall into order among these images. 0.995 at
    an AUC of 0.95 (normal scores) costs 0.001; what 200 images say of so small a change of AUC is mostly chance. Among
    goods alone it says nothing of that: their own spread is small beside their distance from bads.
    """
    one = before.reshape(len(before), -1).astype(np.float64)
    other = after.reshape(len(after), -1).astype(np.float64)
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else None


def complaints(report: dict[str, Any], tolerance: Tolerance) -> list[str]:
    """Returns in words what lies beyond the tolerance; nothing when the graph may be used."""
    found = []
    mean = report["score_difference"]["mean"]
    if mean > tolerance.max_score:
        found.append(f"scores differ by {mean:.4f} on average, {tolerance.max_score:g} is allowed")
    if report["auc"] is not None:
        before, after = report["auc"]["before"], report["auc"]["after"]
        if before - after > tolerance.max_auc_loss + 1 / (report["goods"] * report["bads"]):
            found.append(f"AUC falls from {before:.4f} to {after:.4f}, {tolerance.max_auc_loss:g} is allowed")
    ranked = report.get("raw_score_correlation")
    if report["auc"] is not None and ranked is not None and ranked < tolerance.min_correlation:
        found.append(f"raw scores correlate by {ranked:.4f}, {tolerance.min_correlation:g} is asked for")
    was = report["recipe_at_its_threshold"]["overkill"]
    now = report["graph_at_its_own_threshold"]["overkill"]
    if was is not None and now is not None and now - was > tolerance.max_overkill + 1 / report["goods"]:
        found.append(f"overkill rises from {was:.4f} to {now:.4f}, {tolerance.max_overkill:g} is allowed")
    alike = report.get("map_likeness")
    if alike is not None and alike < tolerance.min_likeness:
        found.append(f"maps correlate by {alike:.3f}, {tolerance.min_likeness:g} is asked for")
    return found

"""A recipe on labelled photographs: figures, its certificate held against them, requirements. Nothing is trained.

Photographs that the recipe was trained or calibrated on (the same bytes) do not count in the figures, unless there are
no others. Photographs with equal bytes count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.cam.regions import pointing_hit
from knowngood.data.images import read_mask
from knowngood.data.labels import read_verdicts, with_verdicts
from knowngood.data.loading import inspected, loaded
from knowngood.data.records import BAD, GOOD, Records, table
from knowngood.data.sources import SOURCES
from knowngood.data.sources.walking import Walker, folders_in, relative_name, text_of
from knowngood.data.tabular import same_names
from knowngood.data.words import LabelNames, defect_of, label_names, meaning_of
from knowngood.errors import ConfigError, DataError, ImageError
from knowngood.metrics.decisions import check_limit
from knowngood.metrics.thresholds import Thresholds
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.evaluation_document import (
    SEEN,
    UNREADABLE,
    Located,
    figures_of,
    left_out_because,
    required,
    sentences,
)
from knowngood.recipe.evidence import seen_by
from knowngood.recipe.inputs import item_at
from knowngood.recipe.maps import checked_method
from knowngood.recipe.predicting import deciding_session, say_unchecked
from knowngood.recipe.session import AUTO, Session

Bools = npt.NDArray[np.bool_]

MOST_LOCATED = 1000  # defects whose maps are made: a map takes as long as a score or two
_KEPT = ("image", "path", "label", "defect", "split", "lot", "unit", "machine", "product", "mask", "box", "sha256")


@dataclass(frozen=True)
class Evaluation:
    """A recipe on labelled photographs.

    Attributes:
        document: What evaluation.json holds.
        rows: A row a photograph of the set: image, path, label, defect, split, lot, unit, machine, product, sha256,
            defect_score (0..1), decision, reason, error, seen (whether the recipe was trained or calibrated on it; null
            where that is unknown), left_out (why it does not count in the figures; null where it does), on_defect
            (whether the hottest place of its map lies on the defect; null where that was not looked at).
        passed: Whether all requirements are met; None where none was given.
        folder: With report.html, evaluation.json and scores.parquet; None where none was written.
    """

    document: dict[str, Any]
    rows: pl.DataFrame
    passed: bool | None
    folder: Path | None = None


def evaluate_recipe(  # noqa: PLR0913  (named, and each with a default)
    recipe: Recipe,
    data: str | Path | Records,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    unit_from: str | None = None,
    golden: str | Path | None = None,
    max_escape_rate: float | None = None,
    max_overkill_rate: float | None = None,
    runtime: str = AUTO,
    any_product: bool = False,
    accept_below: float | None = None,
    reject_from: float | None = None,
    confidence: float = 0.95,
) -> Evaluation:
    """Scores labelled photographs as `predict` does and measures the decisions, see `knowngood.evaluate`.

    Raises:
        Those of `knowngood.evaluate`.
    """
    check_limit("escape", max_escape_rate)
    check_limit("overkill", max_overkill_rate)
    session = deciding_session(recipe, runtime, accept_below, reject_from, any_product=any_product)
    say_unchecked(recipe, any_product)
    records = labelled_records(data, source, good=good, bad=bad, unit_from=unit_from, golden=golden)
    rows = _scored(session, records.frame)
    if not rows["defect_score"].is_not_null().any():
        raise DataError("None of the labelled photographs can be read.", fix="Run `knowngood check` on the folder.")
    located = _located(session, rows.filter(pl.col("left_out").is_null()))
    rows = rows.with_columns(
        pl.Series("on_defect", [located.found.get(name) for name in rows["image"]], dtype=pl.Boolean)
    )
    document = {
        "recipe": recipe_facts(session),
        "data": {"source": records.source, "root": str(records.root), "notes": list(records.notes)},
        "golden": None if golden is None else str(golden),
        **figures_of(
            rows,
            certificate_of(session),
            located,
            confidence,
            one_class=recipe.manifest.kind == "one-class",
        ),
    }
    document["requirements"] = required(document, rows, max_escape_rate, max_overkill_rate)
    document["sentences"] = sentences(document)
    passed = document["requirements"]["passed"] if document["requirements"] else None
    return Evaluation(document, rows.drop("mask", "box"), passed)


def labelled_records(
    data: str | Path | Records,
    source: str | None = None,
    *,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    unit_from: str | None = None,
    golden: str | Path | None = None,
) -> Records:
    """Reads a set as `knowngood.load` does, also a folder of photographs of one class, or with the truth in a table.

    Args:
        data: Folder, manifest, the word of a source, or records. A folder that holds photographs and no class folders
            is of one class where its name (or `good`, `bad`) says which.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        unit_from: As in `knowngood.load`.
        golden: Table with columns image and verdict (good or bad): the agreed truth. Only its photographs are returned,
            with its labels.

    Raises:
        DataError: There is no labelled photograph, or as for `knowngood.load`.
        ConfigError: As for `knowngood.load`.
    """
    verdicts = None if golden is None else _agreed(Path(golden))
    if isinstance(data, Records):
        records = data
    else:
        plain = _plain_folder(Path(data), label_names(good, bad), golden) if source is None else None
        records = loaded(data, source, good=good, bad=bad, unit_from=unit_from) if plain is None else plain
    if verdicts is not None:
        records = with_verdicts(records, verdicts)
        frame = records.frame
        named = same_names(verdicts["image"].to_list(), set(frame["image"].to_list()))
        records = records.with_frame(frame.filter(pl.col("image").is_in(named)))
    if not records.frame["label"].is_not_null().any():
        raise DataError(
            f"None of the {len(records)} photographs of {records.root} has a label.",
            expected="labelled photographs: good/ beside folders of defects, a table, or --golden with the truth",
            fix=f"To score photographs without labels: knowngood predict RECIPE {records.root}",
        )
    return records


def _agreed(table: Path) -> pl.DataFrame:
    """Reads the verdicts good and bad of a golden set: columns image, verdict, defect.

    Raises:
        DataError: There is none.
    """
    verdicts = read_verdicts(table).filter(pl.col("verdict").is_in(["good", "bad"]))
    if verdicts.is_empty():
        raise DataError(f"{table} has no verdict good or bad.", fix="Fill in its column verdict (--golden).")
    return verdicts


def _plain_folder(folder: Path, names: LabelNames, golden: str | Path | None) -> Records | None:
    """Reads a folder of photographs that no source knows: of one class, or of none where a golden table says it.

    Returns:
        None where it is no such folder.

    Raises:
        DataError: Nothing says which class it is.
    """
    if not folder.is_dir():
        return None
    walker = Walker(folder)
    files = list(walker.images(folder, deep=False))
    nested = any(next(Walker(folder).images(inner), None) for inner in folders_in(folder))
    if not files or nested or any(kind().recognises(folder) for _, kind in SOURCES.items()):
        return None
    name = folder.resolve().name
    label = names.label_of(name, str(folder), ".")
    if label is None and not names and (meaning := meaning_of(name)).sure and meaning.kind in ("good", "bad"):
        label = "good" if meaning.kind == "good" else "bad"
    if label is None and golden is None:
        raise DataError(
            f"{folder} holds {len(files)} photographs and no folders of classes, and its name says no class.",
            expected="good/ beside folders of defects, a table with labels, or one class named with --good or --bad",
            fix=f"--good {name!r}, --bad {name!r}, or without labels: knowngood predict RECIPE {folder}",
        )
    columns: dict[str, list[object]] = {
        "image": [relative_name(file, folder) for file in files],
        "path": [text_of(file.absolute()) for file in files],
        "label": [{"good": GOOD, "bad": BAD}.get(label or "")] * len(files),
        "defect": [defect_of(name) if label == "bad" else None] * len(files),
    }
    notes = (f"All photographs of {name}/ are taken as {label}.",) if label else ()
    return Records(inspected(table(columns)), "folder", folder, notes=notes, passed_over=walker.passed_over)


def scored_rows(session: Session, frame: pl.DataFrame, task: str) -> pl.DataFrame:
    """Returns the rows with defect_score, decision, reason and error of a session; `task` names the progress bar."""
    number = reporter().start(task, len(frame))
    made = []
    for one in session.stream(item_at(image, path) for image, path in frame.select("image", "path").rows()):
        made.append(one.prediction)
        reporter().advance(number)
    reporter().finish(number)
    return frame.with_columns(
        pl.Series("defect_score", [one.defect_score for one in made], dtype=pl.Float64),
        pl.Series("decision", [one.decision for one in made], dtype=pl.String),
        pl.Series("reason", [one.reason for one in made], dtype=pl.String),
        pl.Series("error", [one.error for one in made], dtype=pl.String),
    )


def _scored(session: Session, frame: pl.DataFrame) -> pl.DataFrame:
    """Returns a row a photograph of the set, scored where it is readable and labelled, with `seen` and `left_out`."""
    reasons = left_out_because(frame)
    rows = scored_rows(session, frame.filter(reasons.is_null()).select(_KEPT), "score")
    seen = seen_by(session.recipe, rows["sha256"].to_list())
    rows = rows.with_columns(pl.Series("seen", [None] * len(rows) if seen is None else seen, dtype=pl.Boolean))
    some_unseen = seen is not None and bool((~seen).any())
    why = (
        pl.when(pl.col("defect_score").is_null())
        .then(pl.lit(UNREADABLE))
        .when(pl.col("seen").fill_null(False) & pl.lit(some_unseen))
        .then(pl.lit(SEEN))
    )
    others = frame.with_columns(reasons).filter(pl.col("left_out").is_not_null()).select(*_KEPT, "error", "left_out")
    return pl.concat([rows.with_columns(why.alias("left_out")), others], how="diagonal").sort("image")


def _located(session: Session, rows: pl.DataFrame) -> Located:
    """Looks at the maps of the bads that have a mask or boxes, at most `MOST_LOCATED` of them."""
    marked = rows.filter((pl.col("label") == BAD) & (pl.col("mask").is_not_null() | (pl.col("box").list.len() > 0)))
    if marked.is_empty():
        return Located()
    try:
        checked_method(session.recipe.inspector, AUTO)
    except ConfigError as error:
        return Located(marked=len(marked), why_not=error.what)
    chosen = marked.sample(MOST_LOCATED, seed=0) if len(marked) > MOST_LOCATED else marked
    task = reporter().start("maps of marked defects", len(chosen))
    found: dict[str, bool] = {}
    looked = session.explain(item_at(image, path) for image, path in chosen.select("image", "path").iter_rows())
    for row, one in zip(chosen.iter_rows(named=True), looked, strict=True):
        try:
            if one.heat is not None:
                found[row["image"]] = pointing_hit(one.heat.values, _marked_pixels(row, one.heat.values.shape))
        except (ImageError, DataError) as error:
            reporter().say(f"not counted among the marked defects: {error.what}")
        reporter().advance(task)
    reporter().finish(task)
    return Located(found, len(marked))


def _marked_pixels(row: dict[str, Any], shape: tuple[int, ...]) -> Bools:
    """Returns where the defect of a row is, (H, W) bool.

    Raises:
        DataError: The mask or the boxes mark no pixel.
    """
    height, width = int(shape[0]), int(shape[1])
    if row["mask"] is not None:
        pixels = read_mask(row["mask"], (height, width))
    else:
        pixels = np.zeros((height, width), np.bool_)
        for x0, y0, x1, y1 in row["box"]:
            pixels[int(y0) : max(int(np.ceil(y1)), int(y0) + 1), int(x0) : max(int(np.ceil(x1)), int(x0) + 1)] = True
    if not pixels.any():
        raise DataError(f"The mask of {row['image']!r} marks no pixel.")
    return pixels


def certificate_of(session: Session) -> dict[str, Any]:
    """Returns `Threshold.to_dict()` of the thresholds that a session decides by: of the cascade, export or recipe.

    Of other cuts, for a try, it is what the calibration scores of the recipe prove.
    """
    found = session.threshold
    if Thresholds(found["threshold"], found["reject_from"]) == session.thresholds:
        return found
    return session.recipe.threshold_at(session.thresholds)


def recipe_facts(session: Session) -> dict[str, Any]:
    """Returns name, folder, revision, runtime and thresholds of what decides, as JSON types."""
    return {
        "name": session.recipe.manifest.name,
        "folder": None if session.recipe.folder is None else str(session.recipe.folder),
        "revision": session.revision,
        "runtime": session.label,
        "accept_below": session.thresholds.accept_below,
        "reject_from": session.thresholds.reject_from,
    }

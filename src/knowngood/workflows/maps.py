"""Where an inspector looked in the photographs that its report speaks of."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from knowngood.cam.history import CamRecorder, read_cam_history
from knowngood.cam.regions import FRACTION
from knowngood.data.images import decode
from knowngood.data.records import BAD, GOOD
from knowngood.errors import DataError, ImageError
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.inputs import items_from
from knowngood.recipe.maps import HeatMap, level_of
from knowngood.recipe.predicting import pictures
from knowngood.recipe.session import open_session
from knowngood.report.cam_history import CamHistory, cam_history_section, write_cam_history
from knowngood.report.maps import map_section
from knowngood.report.page import Section
from knowngood.report.pictures import Pixels
from knowngood.training.epochs import kept_epoch

_SHOWN = 6  # caught, and rejected for nothing: a map takes as long as a score or two
_ESCAPES = 48  # at most: each of them is looked at
_SHOWN_ONE_CLASS = 12
Choice = tuple[str, str, pl.DataFrame]


def map_sections(recipe: Recipe, table: pl.DataFrame) -> list[Section]:
    """Returns the report's section of maps; none where the recipe draws none.

    Args:
        recipe: Calibrated.
        table: A row an image with path, split, label, defect, score and decision.
    """
    if recipe.manifest.networks[0].head == "knn":
        return []
    level = level_of(recipe.inspector)
    seen = table.filter(pl.col("score").is_not_null() & pl.col("label").is_not_null())
    chosen = _of_classes(seen) if level is None else _of_goods(seen)
    groups = [(name, said, *mapped(recipe, rows)) for name, said, rows in chosen]
    groups = [group for group in groups if group[3]]
    return [map_section(groups, level, FRACTION)] if groups else []


def mapped(recipe: Recipe, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[HeatMap]]:
    """Returns the rows whose photograph can still be read, and their maps."""
    items = items_from(rows["path"], rows["image"].to_list())
    found = [one.heat for one in open_session(recipe, "torch").explain(items)]
    readable = pl.Series([one is not None for one in found], dtype=pl.Boolean)
    return rows.filter(readable), [one for one in found if one is not None]


def spread(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """Takes some rows over the whole range of scores, the highest first."""
    rows = rows.sort("score", "image", descending=[True, False])
    places = np.linspace(0, rows.height - 1, min(most, rows.height)).round().astype(np.int64)
    return rows.filter(pl.int_range(pl.len()).is_in(places.tolist()))


def _of_classes(seen: pl.DataFrame) -> Sequence[Choice]:
    """Picks what was caught, what escaped and what was rejected for nothing, in the test or else in the calibration."""
    split = "test" if (seen["split"] == "test").any() else "calibration"
    shown = seen.filter(pl.col("split") == split)
    bad, passed = pl.col("label") == BAD, pl.col("decision") == "accept"
    worst_goods = shown.filter(~bad & ~passed).sort("score", "image", descending=[True, False])
    escapes = shown.filter(bad & passed).sort("score", "image")
    more = f"; the first {_ESCAPES} of {escapes.height}" if escapes.height > _ESCAPES else ""
    return (
        (
            "Caught",
            "bad and not accepted, from the surest to the least sure",
            spread(shown.filter(bad & ~passed), _SHOWN),
        ),
        (
            "Escapes",
            f"bad and accepted, the worst first{more}; check these labels first, some may be wrong",
            escapes.head(_ESCAPES),
        ),
        ("Overkill", "good and not accepted, the worst first", worst_goods.head(_SHOWN)),
    )


def _of_goods(seen: pl.DataFrame) -> Sequence[Choice]:
    goods = seen.filter(pl.col("label") == GOOD).sort("score", "image", descending=[True, False])
    bads = spread(seen.filter(pl.col("label") == BAD), _SHOWN_ONE_CLASS)
    return (
        ("Good", "held out, the strangest first", goods.head(_SHOWN_ONE_CLASS)),
        ("Bad", "in the test, from the strangest to the most ordinary", bads),
    )


MOST = 16
FOLDER = "cam_history"


@dataclass(frozen=True)
class CamHistoryImages:
    """The watched photographs.

    Attributes:
        names: Of their files.
        photographs: (H, W) or (H, W, 3) uint8 each.
    """

    names: tuple[str, ...]
    photographs: tuple[Pixels, ...]

    def recorder(self, folder: Path, *, goes_on: bool) -> CamRecorder:
        """Returns the recorder for `folder / "cam_history"`, emptied unless the training resumes one there."""
        if not goes_on:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return CamRecorder(folder / FOLDER, self.photographs)

    def sections(self, folder: Path, history: Sequence[Mapping[str, float]]) -> list[Section]:
        """Draws the CAM history of a finished training and returns the report's section.

        Args:
            folder: Of the run.
            history: Its epochs.
        """
        place = folder / FOLDER
        frames = read_cam_history(place)
        if not frames:
            return []
        shown = CamHistory(self.names, self.photographs, frames, int(kept_epoch(history)["epoch"]))
        write_cam_history(shown, place)
        return [cam_history_section(shown, place)]


def cam_history_images(place: Path | None) -> CamHistoryImages | None:
    """Reads the photographs that are to be watched; of more than 16 it takes 16 over the whole list.

    Raises:
        DataError: There is none, or none can be read.
    """
    if place is None:
        return None
    paths = pictures([place])
    if len(paths) > MOST:
        reporter().say(f"{place} holds {len(paths)} photographs: {MOST} of them, spread over the list, are watched")
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, MOST).round().astype(int).tolist()]
    names, photographs, troubles = [], [], []
    for path in paths:
        try:
            photographs.append(decode(path))
            names.append(path.name)
        except ImageError as error:
            troubles.append(error.what)
            reporter().say(f"not watched: {error.what}")
    if not photographs:
        raise DataError(f"None of the photographs of --cam-history can be read; the first says: {troubles[0]}")
    return CamHistoryImages(tuple(names), tuple(photographs))

"""Where the inspector looks at bad units, type by type, and whether that is where the defect is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from knowngood import wording
from knowngood.data.images import decode
from knowngood.data.records import BAD
from knowngood.errors import ImageError
from knowngood.explain.localisation import Mask, best_iou, pointing_hit
from knowngood.explain.regions import regions_above
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap
from knowngood.report.page import Section, exact_rate, render
from knowngood.report.thumbnails import thumbnail
from knowngood.study.explaining import PAGE, explain
from knowngood.study.looking import mapped, spread
from knowngood.study.steps import Found, Material
from knowngood.study.steps.inspector import FOLDER as INSPECTOR

FOLDER = "explanations"
_SHOWN, _MEASURED = 2, 25  # photographs of each type
_SIDE = 700  # pixels of a strip in the page
_FEW, _POOR = 10, 0.5  # below so many masks nothing is advised; below this pointing game something is


class ExplanationsStep:
    """Makes maps of test bads, and holds them against the masks where there are any."""

    title = "Where the inspector looked"

    def skipped(self, material: Material) -> str | None:
        if "inspector" not in material.found:
            return "there is no inspector to explain"
        return None if _bads(material).height else "no bad unit is in the test"

    def run(self, material: Material) -> Found:
        recipe = Recipe.load(material.folder / INSPECTOR)
        bads = _bads(material)
        kinds = sorted(bads["defect"].unique().to_list())
        of_kind = {kind: spread(bads.filter(pl.col("defect") == kind), _MEASURED) for kind in kinds}
        shown = {kind: spread(rows, _SHOWN)["path"].to_list() for kind, rows in of_kind.items()}
        done = explain(recipe, [p for paths in shown.values() for p in paths], material.folder / FOLDER)
        files = {one["image"]: one["files"] for one in done.document["images"]}
        return {
            "kinds": {
                kind: {
                    "test": bads.filter(pl.col("defect") == kind).height,
                    "files": [files[path] for path in shown[kind] if files.get(path)],
                    **_measured(recipe, rows),
                }
                for kind, rows in of_kind.items()
            }
        }

    def sections(self, material: Material, found: Found) -> list[Section]:
        kinds = found["kinds"]
        rows = [
            (kind, f"{one['test']:,}", *_cells(one["masks"], one["hits"], one["iou"])) for kind, one in kinds.items()
        ]
        measured = [one for one in kinds.values() if one["masks"]]
        sentences = ["Two bad test photographs of each type, with the map and the boxes of the inspector."]
        if measured:
            masks, hits = (sum(one[name] for one in measured) for name in ("masks", "hits"))
            sentences = [
                f"The hottest place of the map lay on the defect in {hits} of {masks} bad photographs with a mask, "
                f"{exact_rate(hits, masks)}."
            ]
        table = render(
            "sections/study_step.html",
            sentences=sentences,
            columns=("defect", "in the test", "with a mask", "hottest place on it", "IoU of the largest box, median"),
            rows=rows if measured else [],
            plain=False,
            link=(f"{FOLDER}/{PAGE}", "All of these, larger, with their boxes as a table"),
        )
        strips = [
            (f"{FOLDER}/strips/{name}.png", small.uri, name, "" if place else kind)
            for kind, one in kinds.items()
            for place, name in enumerate(one["files"])
            if (small := thumbnail(str(material.folder / FOLDER / "strips" / f"{name}.png"), _SIDE)).uri
        ]
        lead = "Escaped units have a map too: it shows what spoke most for bad, though not enough."
        return [Section("explanations", self.title, table + render("sections/strips.html", strips=strips), lead)]

    def advice(self, found: Found) -> list[str]:
        poor = [
            kind for kind, one in found["kinds"].items() if one["masks"] >= _FEW and one["hits"] / one["masks"] < _POOR
        ]
        if not poor:
            return []
        return [
            f"Do not take the boxes on {', '.join(poor)} for the defect: the map is hottest beside it more often than "
            "on it. Look whether something else in these photographs gives them away."
        ]


def _bads(material: Material) -> pl.DataFrame:
    """Returns the scored bad rows of the test, with their masks."""
    folder = material.folder / INSPECTOR
    masks = pl.read_parquet(folder / "records.parquet").select("path", "mask").unique("path")
    table = pl.read_parquet(folder / "scores.parquet").with_columns(pl.col("defect").fill_null("bad"))
    wanted = (pl.col("split") == "test") & (pl.col("label") == BAD) & pl.col("score").is_not_null()
    return table.filter(wanted).join(masks, on="path", how="left", maintain_order="left")


def _measured(recipe: Recipe, rows: pl.DataFrame) -> dict[str, Any]:
    """Returns how the maps of rows with a mask agree with it."""
    kept, maps = mapped(recipe, rows.filter(pl.col("mask").is_not_null()))
    pairs = [
        (one, mask) for one, path in zip(maps, kept["mask"], strict=True) if (mask := _mask(path, one)) is not None
    ]
    overlaps = [best_iou(one.regions[0].box if one.regions else None, _boxes(mask)) for one, mask in pairs]
    return {
        "masks": len(pairs),
        "hits": sum(bool(one.values.max() > 0) and pointing_hit(one.values, mask) for one, mask in pairs),
        "iou": statistics.median(overlaps) if overlaps else None,
    }


def _mask(path: str, one: HeatMap) -> Mask | None:
    """Reads a mask, at the photograph's size; None where it cannot be read or is empty."""
    try:
        pixels = decode(Path(path))
    except ImageError:
        return None
    flat = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    height, width = one.values.shape
    mask = np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST) > 0, np.bool_)
    return mask if mask.any() else None


def _boxes(mask: Mask) -> Sequence[tuple[int, int, int, int]]:
    return [region.box for region in regions_above(mask.astype(np.float32), 0.5)]


def _cells(masks: int, hits: int, iou: float | None) -> tuple[str, str, str]:
    if not masks:
        return "0", wording.NONE, wording.NONE
    return f"{masks:,}", exact_rate(hits, masks), f"{iou:.2f}"

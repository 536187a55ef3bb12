"""What `explain` found, for programs: boxes as a table and as COCO JSON."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.explain.regions import Region

SCHEMA: dict[str, pl.DataType] = {
    "image": pl.String(),
    "defect_score": pl.Float64(),
    "decision": pl.String(),
    "reason": pl.String(),
    "rank": pl.Int64(),
    **{side: pl.Int64() for side in ("x0", "y0", "x1", "y1", "area")},
    "mean": pl.Float64(),
    "peak": pl.Float64(),
    "error": pl.String(),
}


@dataclass(frozen=True)
class Looked:
    """What is kept of one photograph once its map is on the disk.

    Attributes:
        image: Its name.
        key: Name of its files, without an ending.
        size: Height and width in pixels; (0, 0) when it could not be read.
        defect_score: In 0..1; None when it could not be read.
        decision: "accept", "review" or "reject"; "error" when it could not be read.
        regions: The largest first, their masks left out: all of many photographs may be too much for the memory.
        runs: The masks of the regions as run lengths, from `run_lengths`.
        error: Why it could not be read, or None.
        reason: Why the decision is "review" whatever the score, or None.
    """

    image: str
    key: str
    size: tuple[int, int] = (0, 0)
    defect_score: float | None = None
    decision: str | None = None
    regions: tuple[Region, ...] = ()
    runs: tuple[list[int], ...] = ()
    error: str | None = None
    reason: str | None = None


def box_table(looked: Iterable[Looked]) -> pl.DataFrame:
    """Returns a row a box, rank 1 the largest; a photograph without a box, or not readable, has one row."""
    rows: list[dict[str, Any]] = []
    for one in looked:
        said = {"image": one.image, "defect_score": one.defect_score, "decision": one.decision}
        said |= {"reason": one.reason, "error": one.error}
        for rank, region in enumerate(one.regions, 1):
            x0, y0, x1, y1 = region.box
            facts = {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "area": region.area}
            rows.append(said | {"rank": rank, "mean": region.mean, "peak": region.peak} | facts)
        if not one.regions:
            rows.append(said)
    return pl.DataFrame(rows, schema=SCHEMA)


def coco(looked: Sequence[Looked], description: str) -> dict[str, Any]:
    """Returns the boxes as a COCO document of one category, "defect", with masks as run lengths.

    Reference:
        Lin et al. 2014; `score` is the photograph's defect score, as in COCO results.
    """
    readable = [one for one in looked if one.error is None]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(readable, 1):
        height, width = one.size
        images.append({"id": number, "file_name": one.image, "height": height, "width": width})
        for rank, (region, runs) in enumerate(zip(one.regions, one.runs, strict=True), 1):
            x0, y0, x1, y1 = region.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.area,
                    "segmentation": {"size": [height, width], "counts": runs},
                    "iscrowd": 0,
                    "score": one.defect_score,
                    "rank": rank,
                    "mean": region.mean,
                    "peak": region.peak,
                }
            )
    return {
        "info": {"description": description, "date_created": datetime.date.today().isoformat()},
        "licenses": [],
        "categories": [{"id": 1, "name": "defect", "supercategory": "part"}],
        "images": images,
        "annotations": annotations,
    }


def without_masks(regions: Sequence[Region]) -> tuple[tuple[Region, ...], tuple[list[int], ...]]:
    """Returns regions without their masks, and the masks as run lengths."""
    nothing = np.zeros((0, 0), np.bool_)
    return tuple(replace(r, mask=nothing) for r in regions), tuple(run_lengths(r.mask) for r in regions)


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Returns how many pixels are off, on, off ... down the columns of a mask (H, W), as COCO counts them."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()
    return lengths


def keys_for(names: Sequence[str]) -> list[str]:
    """Returns a file's name, without an ending, for each photograph: its own where that is safe and not taken yet."""
    taken: set[str] = set()
    keys = []
    for name in names:
        stem = re.split(r"[/\\]", name)[-1].rsplit(".", 1)[0]
        base = re.sub(r"[^\w.-]+", "_", stem, flags=re.ASCII).strip("._")[:80] or "image"
        key, number = base, 1
        while key.lower() in taken:  # some disks do not tell capitals apart
            number += 1
            key = f"{base}_{number}"
        taken.add(key.lower())
        keys.append(key)
    return keys

"""What `explain` found: boxes as a table and as COCO JSON, pictures, and the page."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from knowngood import wording
from knowngood.cam.regions import Region
from knowngood.data.images import decode
from knowngood.files import write_text
from knowngood.metrics.thresholds import ACCEPT
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap, at_size
from knowngood.report.maps import Pair, caption_of, drawn_pair, pair_section
from knowngood.report.page import Section, page, render
from knowngood.report.pictures import (
    Pixels,
    Scale,
    as_colour,
    beside,
    framed,
    legend,
    pair_of,
    scale_of,
    sized,
    thumbnail,
    under,
    words,
)
from knowngood.workflows.configs import ExplainConfig

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


_SMALLEST, _LARGEST = 400, 1600  # pixels of the longer side of a picture that is written
_STAGE_SIDE = 240
_NARROWEST = 300  # pixels that a legend's words need
_GALLERY, _STRIPS = 200, 24  # shown in the page
_SHARED, _OWN = "one scale for all pictures of this call", "scaled to this picture alone: compare places, not colours"

OVERLAYS, STRIPS, LAYERS = "overlays", "strips", "layers"


@dataclass(frozen=True)
class Drawing:
    """Draws one photograph after the other, all in one scale.

    Attributes:
        folder: To write to.
        raw: Where the maps are.
        level: Of a recipe from good images alone, else None.
        config: What was asked for.
        scale: Of the recipe's maps.
        stages: Scale of each layer that is shown beside.
        network: Whose layers, and by which method.
    """

    folder: Path
    raw: Path
    level: float | None
    config: ExplainConfig
    scale: Scale
    stages: Mapping[str, Scale]
    network: str

    def draw(self, one: Looked, photograph: Pixels) -> None:
        """Writes overlay, strip and, where layers are asked for, their strip."""
        heat = self.map_of(one)
        longest = max(photograph.shape[:2])
        factor = min(max(longest, _SMALLEST), _LARGEST) / longest
        scale = self.scale_for(heat.values)
        left, right = pair_of(photograph, heat, scale, factor)
        width = max(right.shape[1], _NARROWEST)
        below = legend(scale, width, f"{self._unit()}; {_OWN if self.config.scale == 'image' else _SHARED}.")
        facts = f"{one.image}: {caption_of(heat)}, defect score {wording.score(one.defect_score)}"
        self._write(OVERLAYS, one.key, under([right, below]))
        both = beside([left, under([right, below])])
        self._write(STRIPS, one.key, framed(under([words(facts, both.shape[1]), both])))
        if self.stages:
            self._write(LAYERS, one.key, self._strip(one, photograph, facts))

    def map_of(self, one: Looked) -> HeatMap:
        """Returns what was found in a readable photograph, with its map from the disk."""
        assert one.defect_score is not None
        assert one.decision is not None
        return HeatMap(one.image, one.defect_score, one.decision, self._values(one.key), one.regions)

    def scale_for(self, values: npt.NDArray[np.float32]) -> Scale:
        """Returns the scale that a map is shown in."""
        return scale_of([values], self.level) if self.config.scale == "image" else self.scale

    def _strip(self, one: Looked, photograph: Pixels, facts: str) -> Pixels:
        """Returns the photograph and the map of each layer, with that layer's own scale under it."""
        small = as_colour(sized(photograph, _STAGE_SIDE / max(photograph.shape[:2])))
        height, width = small.shape[:2]
        wide = max(width, 120)
        columns = [under([words("photograph", wide), small])]
        own = self.config.scale == "image"
        for layer, shared in self.stages.items():
            values = self._values(f"{one.key}.{layer}")
            scale = scale_of([values]) if own else shared
            painted = scale.over(small, at_size(values, height, width))
            name = layer if values.max() > 0 else f"{layer}: nothing"
            columns.append(under([words(name, wide), painted, legend(scale, width)]))
        row = beside(columns)
        said = f"Stages of {self.network}. Each has a scale of its own: between stages compare places, not colours; "
        said += "every picture too." if own else "from picture to picture a stage keeps its scale."
        return framed(under([words(facts, row.shape[1]), row, words(said, row.shape[1], 13)]))

    def _unit(self) -> str:
        if self.level is not None:
            return f"distance to the nearest remembered patch; boxes above {self.level:.3g}"
        return f"how much each place adds to the raw score of bad; boxes above {self.config.cam_threshold:g} x maximum"

    def _values(self, key: str) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = np.load(self.raw / f"{key}.npy", allow_pickle=False)
        return values

    def _write(self, kind: str, key: str, picture: Pixels) -> None:
        place = self.folder / kind
        place.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / f"{key}.png", compress_level=3)


def write_gallery(
    drawing: Drawing, looked: Sequence[Looked], paths: Mapping[str, Path], recipe: Recipe, target: Path
) -> None:
    """Writes the page: the highest scores first, then stages, then what could not be read.

    Args:
        drawing: That has written the pictures.
        looked: All photographs.
        paths: Of the readable ones, by key.
        recipe: For its name.
        target: To write.
    """
    readable = [one for one in looked if one.error is None]
    shown = sorted(readable, key=lambda one: (-(one.defect_score or 0.0), one.image))[:_GALLERY]
    rest = len(readable) - len(shown)
    pairs = [_pair(drawing, one, paths[one.key]) for one in shown]
    more = f"the {len(shown)} highest scores; {rest} more are in {OVERLAYS}/" if rest else ""
    groups = [("Photographs" if more else "", more, pairs)] if pairs else []
    title = "Where it looked" if drawing.level is None else "Where units differ from good ones"
    own = drawing.config.scale == "image"
    sections = [pair_section(groups, drawing.scale, drawing.config.cam_threshold, title, own=own)] if pairs else []
    if drawing.stages:
        strips = [
            (
                f"{LAYERS}/{one.key}.png",
                thumbnail(str(drawing.folder / LAYERS / f"{one.key}.png"), 1400).uri,
                one.image,
                "",
            )
            for one in shown[:_STRIPS]
        ]
        lead = f"{drawing.network}. Early stages see edges and textures; the last one is what the decision stands on."
        sections.append(Section("stages", "Stage by stage", render("sections/strips.html", strips=strips), lead))
    broken = [(one.image, one.error) for one in looked if one.error is not None]
    if broken:
        body = render(
            "sections/study_step.html", sentences=[], columns=("image", "error"), rows=broken, plain=True, link=None
        )
        sections.append(Section("unreadable", "Unreadable", body))
    subtitle = f"{wording.counted(len(looked), 'photograph')}, recipe {recipe.manifest.name}, {drawing.config.method}"
    write_text(target, page("Where the inspector looked", subtitle, sections))


def _pair(drawing: Drawing, one: Looked, path: Path) -> Pair:
    heat = drawing.map_of(one)
    photograph, overlay = drawn_pair(decode(path), heat, drawing.scale_for(heat.values))
    score, bad = wording.score(one.defect_score), one.decision != ACCEPT
    return Pair(photograph, overlay, one.image, "", bad, score, caption_of(heat), f"{STRIPS}/{one.key}.png")

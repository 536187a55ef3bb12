"""Anomaly maps beside their photographs, all in one scale of colours, with the boxes of what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.images import decode
from knowngood.recipe.maps import HeatMap, Map, at_size
from knowngood.report import wording
from knowngood.report.page import Section, render
from knowngood.report.thumbnails import data_uri

_SIDE = 220  # pixels of the longer side of a picture
_STOPS = 9  # colours of the legend's gradient
_REACH = 3.0  # the scale ends at most this many times as far from its beginning as the level is

Pixels = npt.NDArray[np.uint8]
Group = tuple[str, str, pl.DataFrame, list[HeatMap]]


@dataclass(frozen=True)
class Scale:
    """What the colours mean: `low` the darkest, `high` and all beyond it the brightest; boxes from `level` on."""

    low: float
    high: float
    level: float

    def colours(self, values: Map) -> Pixels:
        """Returns RGB (H, W, 3) uint8 in viridis, which is perceptually even and safe for colour-blind eyes."""
        share = np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1)
        painted = cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        return np.asarray(painted[..., ::-1], np.uint8)


@dataclass(frozen=True)
class Pair:
    """A photograph and its map as the template shows them."""

    photograph: str
    map: str
    name: str
    tag: str
    bad: bool
    score: str
    said: str


def anomaly_maps(groups: Sequence[Group], level: float) -> Section:
    """Makes the section of maps.

    Args:
        groups: Heading, what it shows, rows of the score table, and the map of each row.
        level: Of the recipe: what lies above it gets a box.
    """
    scale = _scale([one for *_, maps in groups for one in maps], level)
    shown = [
        (name, said, [_pair(row, one, scale) for row, one in zip(rows.iter_rows(named=True), maps, strict=True)])
        for name, said, rows, maps in groups
    ]
    ramp = scale.colours(np.linspace(scale.low, scale.high, _STOPS, dtype=np.float32)[None])[0]
    body = render(
        "sections/maps.html",
        groups=shown,
        scale=scale,
        stops=", ".join(f"rgb({r} {g} {b})" for r, g, b in ramp.tolist()),
        at=100 * float(np.clip((level - scale.low) / (scale.high - scale.low), 0, 1)),
    )
    lead = "How far each place is from the nearest remembered patch of a good unit. Boxes: what stands out."
    return Section("maps", "Where units differ from good ones", body, lead)


def _scale(maps: Sequence[HeatMap], level: float) -> Scale:
    low = min(float(np.quantile(one.values, 0.05)) for one in maps)
    high = max(float(one.values.max()) for one in maps)
    high = min(max(high, level), low + _REACH * max(level - low, 1e-6))
    return Scale(low, max(high, low + 1e-6), level)


def _pair(row: dict[str, object], one: HeatMap, scale: Scale) -> Pair:
    pixels = decode(str(row["path"]))
    colour = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    factor = _SIDE / max(colour.shape[:2])
    height, width = (max(1, round(side * factor)) for side in colour.shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    photograph = np.asarray(cv2.resize(colour, (width, height), interpolation=way), np.uint8)
    painted = scale.colours(at_size(one.values, height, width))
    bad = row["label"] == 1
    count = len(one.regions)
    return Pair(
        photograph=data_uri(_boxed(photograph, one, factor)),
        map=data_uri(_boxed(painted, one, factor)),
        name=str(row["image"]),
        tag=str(row["defect"] or "bad") if bad else "good",
        bad=bad,
        score=wording.score(one.defect_score),
        said=f"{one.decision}, {wording.counted(count, 'box', 'boxes') if count else 'no box'}",
    )


def _boxed(picture: Pixels, one: HeatMap, factor: float) -> Pixels:
    """Draws the boxes in white on black, which shows on every ground."""
    drawn = np.ascontiguousarray(picture)
    for region in one.regions:
        x0, y0, x1, y1 = (round(factor * side) for side in region.box)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
            cv2.rectangle(drawn, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), colour, thickness)
    return drawn

"""Where a photograph differs from good ones: a map in its own pixels, and boxes around what stands out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

PEAK_SHARE = 0.8  # a rejected photograph whose map stays below the level gets a box around its peak, down to this

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """One connected part of a map that stands out.

    Attributes:
        box: (x0, y0, x1, y1) in pixels of the original photograph, half-open.
        peak: Highest value inside, in the unit of the map.
        area: Pixels of the original photograph that it covers.
    """

    box: tuple[int, int, int, int]
    peak: float
    area: int


@dataclass(frozen=True)
class AnomalyMap:
    """Where a photograph is unlike good ones.

    Attributes:
        image: Name of the photograph.
        defect_score: In 0..1.
        decision: "accept", "review" or "reject".
        values: (H, W) float32 at the photograph's own size: distance to the nearest remembered patch, smoothed; no
            rescaling by image, so that values of one recipe's maps can be compared.
        regions: Connected parts above the recipe's level, the highest peak first.
    """

    image: str
    defect_score: float
    decision: str
    values: Map
    regions: tuple[Region, ...]


def at_size(values: Map, height: int, width: int) -> Map:
    """Returns a map (h, w) stretched to (height, width), bilinear."""
    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def regions_of(values: Map, level: float, *, needed: bool = False) -> tuple[Region, ...]:
    """Returns the connected parts (8 neighbours) of a map that lie above a level, the highest peak first.

    Args:
        values: (H, W) float32.
        level: Values above it stand out.
        needed: Whether there must be one; with nothing above the level it is the part around the peak that is above
            `PEAK_SHARE` of it.
    """
    peak = float(values.max())
    alone = peak <= level
    if alone and not needed:
        return ()
    mask = (values >= PEAK_SHARE * peak) if alone else (values > level)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = []
    for number in range(1, count):
        left, top, wide, high, area = (int(v) for v in facts[number])
        inside = values[top : top + high, left : left + wide]
        own = labels[top : top + high, left : left + wide] == number
        found.append(Region((left, top, left + wide, top + high), float(inside[own].max()), area))
    found.sort(key=lambda region: -region.peak)
    return tuple(found[:1] if alone else found)

"""From a map to the defect: connected regions above a share of the map's maximum, as masks and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.errors import ConfigError

FRACTION = 0.4  # of the maximum, as in the study
Map: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Region:
    """One connected region of a map, in pixels of the map (give it at the photograph's size).

    Attributes:
        box: (x0, y0, x1, y1), half-open.
        mask: (H, W) bool.
        area: Pixels of the mask.
        mean: Average of the map inside.
        peak: Maximum of the map inside.
    """

    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.bool_]
    area: int
    mean: float
    peak: float

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the mask as plain JSON types."""
        return {"box": list(self.box), "area": self.area, "mean": self.mean, "peak": self.peak}


def regions_of(heat: Map, *, fraction: float = FRACTION, most: int = 5) -> tuple[Region, ...]:
    """Returns the connected regions above `fraction` of the maximum, the largest first.

    Args:
        heat: (H, W) raw map; NaN is not allowed.
        fraction: Of the map's own maximum, in (0, 1).
        most: How many are returned at most.

    Returns:
        None where the map has no positive value.

    Raises:
        ConfigError: The fraction is not between 0 and 1.

    Reference:
        Zhou et al. 2016, section 3.2, with 0.4 for 0.2, as the study has it; eight neighbours connect.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"The fraction of the maximum is {fraction}.", expected="more than 0, less than 1")
    top = float(heat.max(initial=0.0))
    return regions_above(heat, fraction * top)[:most] if top > 0 else ()


def regions_above(heat: Map, level: float) -> tuple[Region, ...]:
    """Returns the connected regions (eight neighbours) above a level, the largest first.

    Args:
        heat: (H, W) map.
        level: In the unit of the map.
    """
    above = (heat > level).astype(np.uint8)
    count, places, facts, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    order = sorted(range(1, count), key=lambda i: (-int(facts[i, cv2.CC_STAT_AREA]), i))
    return tuple(_region(heat, places == i, facts[i]) for i in order)


def boxes_of(mask: npt.NDArray[np.bool_]) -> tuple[tuple[int, int, int, int], ...]:
    """Returns the boxes (x0, y0, x1, y1), half-open, of the connected parts of a mask (H, W), the largest first."""
    return tuple(one.box for one in regions_above(mask.astype(np.float32), 0.5))


def _region(heat: Map, mask: npt.NDArray[np.bool_], facts: npt.NDArray[Any]) -> Region:
    x, y, width, height, area = (int(n) for n in facts)
    inside = heat[mask]
    return Region((x, y, x + width, y + height), mask, area, float(inside.mean()), float(inside.max()))

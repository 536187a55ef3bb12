"""Connected regions of a map above a share of its maximum, as masks and boxes, and localisation metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.errors import ConfigError, KnownGoodError
from knowngood.metrics.figures import auroc

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
        most: Largest number of regions returned.

    Returns:
        An empty tuple where the map has no positive value.

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


Mask: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = tuple[float, float, float, float]
_LEVELS = 400  # thresholds of the AUPRO curve


def pointing_hit(heat: Map, mask: Mask, *, tolerance: int = 0) -> bool:
    """Returns whether the map's maximum lies on the defect.

    Args:
        heat: (H, W).
        mask: (H, W) bool with at least one pixel.
        tolerance: Pixels by which the maximum may miss; 15 in the paper, 0 (none) here unless asked for.

    Reference:
        Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.
    """
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    if tolerance:
        reach = slice(max(0, y - tolerance), y + tolerance + 1), slice(max(0, x - tolerance), x + tolerance + 1)
        return bool(mask[reach].any())
    return bool(mask[y, x])


def box_iou(one: Box, two: Box) -> float:
    """Returns intersection over union of two half-open boxes (x0, y0, x1, y1), in 0..1."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, two))
    return float(common / (areas - common)) if areas > common else 0.0


def best_iou(found: Box | None, truth: Sequence[Box]) -> float:
    """Returns the IoU of a found box with the true box that fits it best; 0 where nothing was found."""
    return max((box_iou(found, box) for box in truth), default=0.0) if found is not None else 0.0


def pixel_auroc(maps: Sequence[Map], masks: Sequence[Mask], *, most: int = 2_000_000, seed: int = 0) -> float | None:
    """Returns the probability that a defect's pixel is hotter than a sound one, over all pictures together.

    Args:
        maps: (H, W) each; raw, since maps scaled to their own picture cannot be pooled.
        masks: (H, W) bool each.
        most: Pixels; when there are more, so many are drawn at random.
        seed: Of the drawing.

    Returns:
        In 0..1; None when there is only one kind of pixel.
    """
    heat, bad = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    if len(heat) > most:
        drawn = np.random.default_rng(seed).choice(len(heat), most, replace=False)
        heat, bad = heat[drawn], bad[drawn]
    return auroc(bad, heat.astype(np.float64))


def aupro(maps: Sequence[Map], masks: Sequence[Mask], *, limit: float = 0.3) -> float:
    """Returns the area under the per-region overlap curve up to a false positive rate, divided by that rate.

    Args:
        maps: (H, W) raw each.
        masks: (H, W) bool each; every 8-connected part of a mask counts once, however small.
        limit: Largest false positive rate, over the sound pixels of all pictures.

    Returns:
        In 0..1.

    Raises:
        KnownGoodError: No mask has a pixel, or none leaves one out.

    Reference:
        Bergmann et al. 2021 (IJCV 129), section 5.2; 400 thresholds at equal steps of the false positive rate.
    """
    sound = np.sort(np.concatenate([heat[~mask] for heat, mask in zip(maps, masks, strict=True)]).astype(np.float64))
    parts = [np.sort(part) for heat, mask in zip(maps, masks, strict=True) for part in _parts(heat, mask)]
    if not parts or not len(sound):
        raise KnownGoodError("AUPRO got no defect or no sound pixel.", expected="masks with both")
    wanted = np.linspace(0, limit, _LEVELS + 1)
    cuts = sound[np.clip(np.ceil((1 - wanted) * len(sound)).astype(int) - 1, 0, len(sound) - 1)]
    rates = 1 - np.searchsorted(sound, cuts, side="right") / len(sound)  # ties make some rates smaller than wanted
    overlaps = np.mean([1 - np.searchsorted(part, cuts, side="right") / len(part) for part in parts], axis=0)
    rates, overlaps = np.append(rates, limit), np.append(overlaps, overlaps[-1])
    return float(np.trapezoid(overlaps, rates) / limit)


def _parts(heat: Map, mask: Mask) -> list[npt.NDArray[np.float64]]:
    count, places = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [heat[places == i].astype(np.float64) for i in range(1, count)]

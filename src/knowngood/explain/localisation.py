"""How well maps and boxes agree with true defect masks: pointing game, IoU of boxes, pixel AUROC, AUPRO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.decide.metrics import auroc
from knowngood.errors import KnownGoodError

Map: TypeAlias = npt.NDArray[np.floating[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = tuple[float, float, float, float]
_LEVELS = 400  # thresholds of the AUPRO curve


def pointing_hit(heat: Map, mask: Mask, *, tolerance: int = 0) -> bool:
    """Says whether the map's maximum lies on the defect.

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

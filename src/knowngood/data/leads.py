"""Finds the leads of a part without any mask: compact bright metal, and nothing that reaches the picture's edge."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
_DIM, _GLARING = 150, 225  # a lot's metal shines at a level between these; nothing else does
_LEAST, _MOST = 0.0012, 0.09  # area of a lead as shares of the picture


def find_leads(image: Pixels) -> npt.NDArray[np.bool_]:
    """Returns where the leads are.

    Saturated knees are seeds; what is bright around them, over the dark groove to the foot, belongs to the lead.
    Thin bright things (laser marks, cathode lines) are opened away first; walls of the pocket are not saturated or
    reach the edge.

    Args:
        image: (H, W) or (H, W, 3) uint8.

    Returns:
        (H, W) bool; empty where there is no such metal, as in an empty pocket.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    side = min(grey.shape)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(0.8, side / 224))
    floor = float(np.median(smooth))
    thick = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, _disc(side, 0.022))
    metal = float(np.clip(0.85 * np.quantile(smooth, 0.995), _DIM, _GLARING))
    seeds = thick >= metal
    bright = (thick > floor + 0.3 * (metal - floor)).astype(np.uint8)
    joined = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, _tall(side))
    count, places, facts, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    lit = np.bincount(places[seeds], minlength=count)
    found = np.zeros(grey.shape, bool)
    for number in range(1, count):
        if lit[number] >= 0.0005 * grey.size and _is_compact(facts[number], grey.shape):
            found |= _box_of(places == number)
    return np.asarray(cv2.dilate(found.astype(np.uint8), _disc(side, 0.009)), bool)


def without_leads(image: Pixels) -> Pixels:
    """Returns the photograph with its leads merged into their surroundings: filled in from the rim of each.

    Args:
        image: (H, W) or (H, W, 3) uint8; not changed.

    Reference:
        Telea 2004, as in OpenCV; that leads mislead a network is the study's suspicion.
    """
    leads = find_leads(image)
    if not leads.any():
        return image
    return np.asarray(cv2.inpaint(np.ascontiguousarray(image), leads.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)


def _box_of(piece: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns the smallest turned rectangle around a piece: a lead is one, and its groove belongs to it."""
    corners = cv2.boxPoints(cv2.minAreaRect(np.argwhere(piece)[:, ::-1].astype(np.float32)))
    drawn = np.zeros(piece.shape, np.uint8)
    return np.asarray(cv2.fillPoly(drawn, [np.rint(corners).astype(np.int32)], 1), bool)


def _is_compact(facts: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    x, y, width, height, area = (int(n) for n in facts)
    inside = x > 0 and y > 0 and x + width < shape[1] and y + height < shape[0]
    share = area / (shape[0] * shape[1])
    return (
        inside
        and _LEAST <= share <= _MOST
        and area >= 0.45 * width * height
        and max(width, height) < 5 * min(width, height)
    )


def _disc(side: int, share: float) -> npt.NDArray[np.uint8]:
    size = max(3, round(side * share) | 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _tall(side: int) -> npt.NDArray[np.uint8]:
    """Closes the groove of a lead, whichever way the lead points, and not the gap between two leads."""
    size = max(3, round(side * 0.08) | 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (size, size)), np.uint8)

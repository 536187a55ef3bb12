"""Thin bright curves on black plastic: walls, glints, elbows, outlines; drawn at twice the size, then halved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.tape.scene import F32, Frame

_SCALE = 2
_SHIFT = 4  # fractional bits of cv2's coordinates


@dataclass(frozen=True)
class Stroke:
    """A curve of one width and level.

    Attributes:
        points: (N, 2) in a frame's pixels.
        width: Pixels.
        level: Grey levels above the ground.
        moved: How far from `points` it lies, across and down, pixels.
    """

    points: tuple[tuple[float, float], ...]
    width: float
    level: float
    moved: tuple[float, float] = (0.0, 0.0)


def draw_strokes(frame: Frame, strokes: Iterable[Stroke], wobble: float, rng: np.random.Generator) -> F32:
    """Draws curves.

    Args:
        frame: Frame of their points.
        strokes: The curves; where they cross the later one wins.
        wobble: Standard deviation of the level from curve to curve, as a share.
        rng: Stream of the layer.

    Returns:
        (H, W) float32, grey levels to add.
    """
    canvas = np.zeros((frame.height * _SCALE, frame.width * _SCALE), np.uint8)
    for stroke in strokes:
        level = min(255.0, max(0.0, stroke.level * (1 + wobble * float(rng.standard_normal()))))
        points = frame.to_image(_smoothed(stroke.points) + stroke.moved) * _SCALE * (1 << _SHIFT)
        thickness = max(1, round(stroke.width * _SCALE))
        level *= min(1.0, stroke.width * _SCALE)  # thinner than half a pixel: fainter instead
        cv2.polylines(canvas, [points.round().astype(np.int32)], False, level, thickness, cv2.LINE_AA, _SHIFT)
    return np.asarray(cv2.resize(canvas, (frame.width, frame.height), interpolation=cv2.INTER_AREA), np.float32)


@lru_cache(maxsize=512)
def _smoothed(points: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float64]:
    return smooth(np.array(points))


def smooth(points: npt.NDArray[np.float64], rounds: int = 2) -> npt.NDArray[np.float64]:
    """Cuts the corners of a polyline (Chaikin 1974), its ends stay."""
    for _ in range(rounds if len(points) > 2 else 0):
        near, far = points[:-1] * 0.75 + points[1:] * 0.25, points[:-1] * 0.25 + points[1:] * 0.75
        cut = np.stack([near, far], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut[1:-1], points[-1:]])
    return points

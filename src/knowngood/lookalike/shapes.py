"""Thin bright curves on black plastic: walls, glints, elbows, outlines; drawn at twice the size, then halved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.lookalike.scene import F32, Box, Frame
from knowngood.lookalike.surface import field

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


_COARSE = 72


def pixels_of(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a box, at least 3 x 3 pixels and inside the picture."""
    x0, y0, x1, y1 = (round(n) for n in box)
    x0, y0 = min(max(x0, 0), width - 3), min(max(y0, 0), height - 3)
    x1, y1 = min(max(x1, x0 + 3), width), min(max(y1, y0 + 3), height)
    return slice(y0, y1), slice(x0, x1)


def size_of(at: tuple[slice, slice]) -> tuple[int, int]:
    """Returns height and width of rows and columns."""
    return at[0].stop - at[0].start, at[1].stop - at[1].start


def blob(rng: np.random.Generator, height: int, width: int, rough: float, hard: float = 6.0) -> F32:
    """Returns an irregular patch.

    Args:
        rng: Stream of the defect.
        height: Of the box, pixels.
        width: Of the box, pixels.
        rough: How far its outline strays, as a share of its radius.
        hard: Steepness of its edge.

    Returns:
        (height, width) float32 in [0, 1].
    """
    axis = np.linspace(-1.25, 1.25, _COARSE, dtype=np.float32)
    radius = np.hypot(axis, axis[:, None])
    edge = 0.75 + rough * (field(rng, _COARSE, _COARSE, 6, 6) * 0.5 + field(rng, _COARSE, _COARSE, 16, 16) * 0.35)
    return fill(np.clip((edge - radius) * np.float32(hard), 0, 1), height, width)


def fill(cover: F32, height: int, width: int) -> F32:
    """Cuts a cover to what it covers and stretches that to the size of a box."""
    rows, columns = np.flatnonzero(cover.max(axis=1) > 0.45), np.flatnonzero(cover.max(axis=0) > 0.45)
    if not len(rows) or not len(columns):
        return np.ones((height, width), np.float32)
    cut = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(np.clip(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), 0, 1), np.float32)


def curve(points: npt.NDArray[np.float64], height: int, width: int, thickness: float) -> F32:
    """Draws one curve that reaches all four sides.

    Args:
        points: (N, 2) anywhere; stretched to the box.
        height: Of the box, pixels.
        width: Of the box, pixels.
        thickness: Pixels.

    Returns:
        (height, width) float32 in [0, 1].
    """
    points = smooth(points)
    low, high = points.min(axis=0), points.max(axis=0)
    unit = (points - low) / np.maximum(high - low, 1e-9)
    room = np.maximum(np.array([width, height]) - thickness, 1.0)
    return lines([unit * room + thickness / 2], height, width, thickness)


def lines(paths: list[npt.NDArray[np.float64]], height: int, width: int, thickness: float) -> F32:
    """Draws polylines, in pixels of the box; (height, width) float32 in [0, 1]."""
    canvas = np.zeros((height * 2, width * 2), np.uint8)
    for path in paths:
        whole = max(1, round(thickness * 2))
        cv2.polylines(canvas, [(path * 32).astype(np.int32)], False, 255, whole, cv2.LINE_AA, 4)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def wandering(rng: np.random.Generator, steps: int, bend: float) -> npt.NDArray[np.float64]:
    """Returns the points of a fibre: steps of one length whose direction wanders; (steps + 1, 2)."""
    turns = np.cumsum(rng.normal(0, bend, steps)) + rng.uniform(0, 2 * np.pi)
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])


def wedge(rng: np.random.Generator, height: int, width: int, corner: tuple[int, int]) -> F32:
    """Returns a rough wedge that lies in a corner or along a side of its box.

    Args:
        rng: Stream of the defect.
        height: Of the box, pixels.
        width: Of the box, pixels.
        corner: Sign of the side it lies at, across and down; 0 where it lies along the whole side.

    Returns:
        (height, width) float32 in [0, 1].
    """
    across, down = corner
    xs, ys = np.linspace(0, 1, _COARSE, dtype=np.float32), np.linspace(0, 1, _COARSE, dtype=np.float32)[:, None]
    x = xs if across <= 0 else 1 - xs
    y = ys if down <= 0 else 1 - ys
    rough = field(rng, _COARSE, _COARSE, 9, 9) * np.float32(0.09) + field(rng, _COARSE, _COARSE, 24, 24) * np.float32(
        0.07
    )
    if across and down:
        bend = np.float32(rng.uniform(0.45, 1.1))  # below 1 the wedge hugs the two edges
        cover = 1 - (np.power(x, bend) + np.power(y, bend)) + rough
    else:
        depth_axis, length_axis = (y, x) if down else (x, y)
        bite = field(rng, 1, _COARSE, 1, 7)
        profile = np.clip(0.16 + 0.13 * np.maximum(bite.ravel() + 0.6, 0) ** 2.2, 0.10, 1.0)
        taper = np.clip(np.minimum(np.linspace(0, 1, _COARSE), np.linspace(1, 0, _COARSE)) * 7, 0.2, 1)
        reach = (profile * taper).astype(np.float32)
        reach = reach / reach.max()
        cover = (reach if down else reach[:, None]) - depth_axis + rough * np.float32(0.7) + 0 * length_axis
    return fill(np.clip(cover * np.float32(9), 0, 1).astype(np.float32), height, width)


def contrast(severity: float, faint: float, glaring: float) -> float:
    """Returns grey levels between faint (severity 0) and glaring (1), in equal steps to the eye."""
    return float(faint * (glaring / faint) ** min(max(severity, 0.0), 1.0))

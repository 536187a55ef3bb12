"""Soft random fields and edges, the material that every layer is made of."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.scene import F32, Box, Frame


def field(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> F32:
    """Returns a smooth random field with about unit variance.

    Args:
        rng: Stream of the layer.
        height: Of the field, pixels.
        width: Of the field, pixels.
        rows: Number of independent values down the field.
        columns: Number of independent values across it.

    Returns:
        (height, width) float32.
    """
    coarse = rng.standard_normal((max(rows, 1), max(columns, 1)), dtype=np.float32)
    if (rows, columns) == (height, width):
        return coarse
    if 8 * rows < height and 8 * columns < width:  # what is so soft may be cubic at a quarter and linear from there
        coarse = cv2.resize(coarse, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC)
        return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def grain(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> F32:
    """Returns a random field whose grains are `size` pixels wide; (height, width) float32, unit variance at 1."""
    return field(rng, height, width, max(2, round(height / size)), max(2, round(width / size)))


def streaks(rng: np.random.Generator, height: int, width: int, length: float) -> F32:
    """Returns a line scan's traces: each row its own, `length` pixels long; (height, width) float32, unit variance."""
    coarse = rng.standard_normal((height, max(2, round(width / length))), dtype=np.float32) * np.float32(1.22)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def box_alpha(frame: Frame, box: Box, at: tuple[slice, slice], soft: float = 1.0, rounding: float = 0.0) -> F32:
    """Returns how much of each pixel a box of a frame covers.

    Args:
        frame: The frame of `box`.
        box: In that frame's pixels.
        at: Rows and columns of the image to answer for.
        soft: Width of the edge, pixels.
        rounding: Radius of the corners, pixels.

    Returns:
        float32 in [0, 1].
    """
    u, v = frame.grid
    x0, y0, x1, y1 = box
    dx = np.abs(u[at] - np.float32((x0 + x1) / 2)) - np.float32((x1 - x0) / 2)
    dy = np.abs(v[at] - np.float32((y0 + y1) / 2)) - np.float32((y1 - y0) / 2)
    outside = np.maximum(dx, dy)
    if rounding:
        dx, dy = dx + np.float32(rounding), dy + np.float32(rounding)
        corner = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) - np.float32(rounding)
        outside = np.maximum(corner, outside)
    return np.asarray(np.clip(np.float32(0.5) - outside / np.float32(soft), 0, 1), np.float32)


def profile(position: F32, stops: tuple[tuple[float, float], ...], reach: tuple[float, float]) -> F32:
    """Looks grey levels up along one direction.

    Args:
        position: Where each pixel lies along it.
        stops: (position, level), positions rising.
        reach: Positions from and to which the table is made.

    Returns:
        Levels, float32, shape of `position`.
    """
    low, high = reach
    steps = max(256, round((high - low) * 4))
    places, levels = zip(*stops, strict=True)
    ramp = np.interp(np.linspace(low, high, steps), places, levels).astype(np.float32)
    index = (position - np.float32(low)) * np.float32((steps - 1) / (high - low))
    return np.asarray(ramp[np.clip(index, 0, steps - 1).astype(np.int32)], np.float32)

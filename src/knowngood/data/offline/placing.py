"""Where a defect goes when its photograph is moved: its mask, its boxes, and how much of it stays in the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from knowngood.data.augmentations.policy import resampled

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Box = Sequence[float]  # x0, y0, x1, y1 in pixels, half-open
_PER_SIDE = 16  # points a side that stand for a box without a mask


def defect_points(mask: Bools | None, boxes: Sequence[Box]) -> list[Floats]:
    """Returns what must stay in the picture: (P, 2) points (x, y) in pixels for each box, else for the whole mask.

    Args:
        mask: (H, W), or None.
        boxes: May be empty. A box with mask pixels in it is as its mask says, any other a grid of points.
    """
    if not boxes:
        whole = _pixels(mask, None) if mask is not None else np.empty((0, 2))
        return [whole] if len(whole) else []
    return [own if len(own := _pixels(mask, box)) else _grid(box) for box in boxes]


def moved_points(points: Floats, matrix: Tensor, size: tuple[int, int]) -> Floats:
    """Returns where points (P, 2) in pixels go under a matrix (3, 3) from output to input coordinates."""
    height, width = size
    scale = np.array([width, height], np.float64) / 2
    inverse = np.linalg.inv(matrix.numpy().astype(np.float64))
    centred = points / scale - 1
    moved = centred @ inverse[:2, :2].T + inverse[:2, 2]
    return np.asarray((moved + 1) * scale, np.float64)


def share_inside(defects: Sequence[Floats], matrix: Tensor | None, size: tuple[int, int]) -> float:
    """Returns the share, 0..1, of the defect that keeps least of itself in the picture of `size` (height, width)."""
    if matrix is None:
        return 1.0
    return min((float(_within(moved_points(points, matrix, size), size).mean()) for points in defects), default=1.0)


def moved_mask(mask: Bools, matrix: Tensor | None, *, mirrored: bool = True) -> Bools:
    """Returns a mask (H, W) moved with its picture, nearest neighbour.

    Args:
        mask: (H, W).
        matrix: (3, 3) from output to input coordinates; None moves nothing.
        mirrored: Whether what the picture's edge mirrors back into it is marked too, since it is to be seen there.
    """
    if matrix is None:
        return mask
    values = torch.from_numpy(mask.astype(np.float32))[None, None]
    moved = resampled(values, matrix[None], "nearest", "reflection" if mirrored else "zeros")[0, 0].numpy() > 0.5
    if mask.any() and not moved.any():  # a defect of a few pixels can fall between the samples
        points = moved_points(_pixels(mask, None), matrix, mask.shape)
        x, y = points[_within(points, mask.shape)].astype(int).T
        moved[y, x] = True
    return np.asarray(moved, np.bool_)


def moved_boxes(boxes: Sequence[Box], mask: Bools | None, matrix: Tensor | None, size: tuple[int, int]) -> list[Box]:
    """Returns the boxes of the moved defects, whole pixels, clipped to the picture; one that left it is gone.

    Args:
        boxes: Of the photograph.
        mask: (H, W) of its defects; a box with mask pixels in it is that of its moved pixels, else of its corners.
        matrix: (3, 3) from output to input coordinates; None moves nothing.
        size: Height and width.
    """
    if matrix is None:
        return [list(box) for box in boxes]
    made = (_moved_box(box, mask, matrix, size) for box in boxes)
    return [box for box in made if box is not None]


def _moved_box(box: Box, mask: Bools | None, matrix: Tensor, size: tuple[int, int]) -> Box | None:
    x0, y0, x1, y1 = box
    if len(_pixels(mask, box)):
        assert mask is not None
        part = np.zeros_like(mask)
        rows, columns = _slices(box)
        part[rows, columns] = mask[rows, columns]
        y, x = np.nonzero(moved_mask(part, matrix, mirrored=False))
        return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) else None
    corners = np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)], np.float64)
    moved = moved_points(corners, matrix, size)
    low = np.maximum(np.floor(moved.min(axis=0) + 1e-3), 0)
    high = np.minimum(np.ceil(moved.max(axis=0) - 1e-3), [size[1], size[0]])
    return [int(low[0]), int(low[1]), int(high[0]), int(high[1])] if (low < high).all() else None


def _within(points: Floats, size: tuple[int, int]) -> Bools:
    return np.asarray(((points >= 0) & (points < [size[1], size[0]])).all(axis=1), np.bool_)


def _pixels(mask: Bools | None, box: Box | None) -> Floats:
    """Returns the centres (P, 2) of the mask's pixels, inside of a box only where one is given."""
    if mask is None:
        return np.empty((0, 2))
    rows, columns = (slice(0, None), slice(0, None)) if box is None else _slices(box)
    y, x = np.nonzero(mask[rows, columns])
    return np.stack([x + columns.start + 0.5, y + rows.start + 0.5], axis=1)


def _slices(box: Box) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(max(0, int(y0)), int(np.ceil(y1))), slice(max(0, int(x0)), int(np.ceil(x1)))


def _grid(box: Box) -> Floats:
    x0, y0, x1, y1 = box
    steps = (np.arange(_PER_SIDE) + 0.5) / _PER_SIDE
    x, y = np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0))
    return np.stack([x.ravel(), y.ravel()], axis=1)

"""What annotation formats draw on a photograph: boxes, polygons, lines and bitmaps become defect boxes and masks.

Coordinates are pixels of the annotated picture, x to the right and y downwards; pixel i of a row covers i to i + 1. A
pixel belongs to a polygon when its centre lies inside by the even-odd rule; several polygons are joined.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.budget import MAX_PIXELS
from knowngood.data.decoders import turned
from knowngood.errors import StorageError
from knowngood.files import cache_folder, whole_file

Points: TypeAlias = npt.NDArray[np.float64]
Bits: TypeAlias = npt.NDArray[np.bool_]
Box: TypeAlias = tuple[float, float, float, float]

LINE = 3  # pixels: how wide lines and points are drawn
_FARTHEST = 1e7  # pixels: no coordinate of a photograph is larger
_EDGES = 512  # of a polygon that are worked on at a time
_VERSION = 1  # of the drawing: part of the name of a mask


@dataclass(frozen=True)
class Runs:
    """A bitmap as run lengths: off, on, off ...

    Attributes:
        lengths: (N,) summing to width * height.
        width: Pixels.
        height: Pixels.
        by_column: Whether the runs go down the columns, as in COCO, or along the rows.
        left: Where the bitmap lies on the annotated picture, pixels.
        top: As `left`.
    """

    lengths: npt.NDArray[np.int64]
    width: int
    height: int
    by_column: bool = False
    left: int = 0
    top: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.width, self.height) < 1
            or self.width * self.height > MAX_PIXELS
            or (self.lengths < 0).any()
            or int(self.lengths.sum()) != self.width * self.height
        ):
            raise ValueError("the run lengths do not add up to the size of the bitmap")

    def pixels(self) -> Bits:
        """Returns the bitmap, (height, width)."""
        flat = np.repeat(np.arange(len(self.lengths)) % 2 == 1, self.lengths)
        return flat.reshape(self.width, self.height).T if self.by_column else flat.reshape(self.height, self.width)


def runs_of(bits: Bits, left: int = 0, top: int = 0) -> Runs:
    """Returns a bitmap (H, W) as run lengths along its rows."""
    flat = np.concatenate([[False], bits.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], changes, [bits.size]]))
    return Runs(lengths.astype(np.int64), bits.shape[1], bits.shape[0], left=left, top=top)


@dataclass(frozen=True)
class Mark:
    """One annotation: its class and where it is, as far as that is known.

    Attributes:
        name: Class.
        box: (x0, y0, x1, y1) in any order of corners; None where the format gives none.
        polygons: Closed outlines (N, 2), joined.
        lines: Open lines (N, 2); one point is a dot.
        runs: A bitmap, or None.
        damaged: Whether a place was given that means nothing.
    """

    name: str
    box: Box | None = None
    polygons: tuple[Points, ...] = ()
    lines: tuple[Points, ...] = ()
    runs: Runs | None = None
    damaged: bool = False

    @property
    def is_placed(self) -> bool:
        """Whether it says where the defect is, and does not only name a class."""
        return self.box is not None or self.is_drawn

    @property
    def is_drawn(self) -> bool:
        """Whether it says so more closely than by an upright box."""
        return bool(self.polygons or self.lines or self.runs)


def points_of(numbers: Sequence[object] | None) -> Points | None:
    """Returns x, y, x, y ... as points (N, 2); None where they are none: odd, not numbers, not finite, too far out."""
    try:
        points = np.array(numbers or (), np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if (
        points.ndim != 1
        or not len(points)
        or len(points) % 2
        or not np.isfinite(points).all()
        or np.abs(points).max() > _FARTHEST
    ):
        return None
    return points.reshape(-1, 2)


def box_of(numbers: Sequence[object] | None) -> Box | None:
    """Returns the box between two opposite corners x, y, x, y in any order; None where that is none."""
    points = points_of(numbers)
    return None if points is None or len(points) != 2 else _around(points)


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0, *, about_centre: bool) -> Points:
    """Returns the corners (4, 2) of a rectangle that is turned clockwise about its centre or its corner (x, y)."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    pivot = np.array([width / 2, height / 2]) if about_centre else np.zeros(2)
    return (corners - pivot) @ _turn(degrees) + pivot + (x, y)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> Points:
    """Returns the outline (64, 2) of an ellipse that is turned clockwise about its centre."""
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    outline = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return np.asarray(outline @ _turn(degrees) + (x, y), np.float64)


def _turn(degrees: float) -> Points:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin], [-sin, cos]])  # rows are points; y points downwards, so this is clockwise


@dataclass(frozen=True)
class Frame:
    """How the annotated picture lies on the photograph.

    Attributes:
        width: Of the photograph, upright, pixels.
        height: As `width`.
        annotated: Width and height in which coordinates are given; (1, 1) for fractions.
        orientation: EXIF orientation that the coordinates have not followed, 1 where they have.
    """

    width: int
    height: int
    annotated: tuple[float, float]
    orientation: int = 1

    def points(self, points: Points) -> Points:
        """Returns points of the annotated picture in pixels of the photograph."""
        x, y = (points / self.annotated).T
        if self.orientation in (5, 6, 7, 8):
            x, y = y, x
        if self.orientation in (2, 3, 6, 7):
            x = 1 - x
        if self.orientation in (3, 4, 7, 8):
            y = 1 - y
        return np.stack([x * self.width, y * self.height], axis=1)

    def bits(self, runs: Runs) -> Bits:
        """Returns a bitmap of the annotated picture at the size of the photograph (height, width)."""
        wide, high = (max(1, round(side)) for side in self.annotated)
        if wide * high > MAX_PIXELS:
            return np.zeros((self.height, self.width), bool)
        whole = np.zeros((high, wide), np.uint8)
        part = whole[max(runs.top, 0) : runs.top + runs.height, max(runs.left, 0) : runs.left + runs.width]
        part[:] = runs.pixels()[max(-runs.top, 0) :, max(-runs.left, 0) :][: part.shape[0], : part.shape[1]]
        whole = turned(whole, self.orientation)
        if whole.shape != (self.height, self.width):
            size = (self.width, self.height)
            whole = np.asarray(cv2.resize(np.ascontiguousarray(whole), size, interpolation=cv2.INTER_NEAREST))
        return np.asarray(whole != 0)


class Placed(NamedTuple):
    """Where a mark lies on the photograph.

    Attributes:
        box: (x0, y0, x1, y1) in its pixels, half-open, clipped; None when nothing of it lies on the photograph.
        area: In pixels of the photograph.
        clipped: Whether it reached over the edge by more than half a pixel.
    """

    box: Box | None
    area: float
    clipped: bool


def placed(mark: Mark, frame: Frame) -> Placed:
    """Returns where a mark that is placed lies on the photograph."""
    outlines = [frame.points(points) for points in mark.polygons]
    area = sum(_area(points) for points in outlines)
    boxes = [_around(points) for points in outlines]
    for line in mark.lines:
        points = frame.points(line)
        x0, y0, x1, y1 = _around(points)
        half = LINE / 2
        boxes.append((x0 - half, y0 - half, x1 + half, y1 + half))
        area += LINE * max(float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum()), LINE)
    if mark.runs is not None:
        bits = frame.bits(mark.runs)
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        if len(rows):
            boxes.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
            area += int(bits.sum())
    if mark.box is not None:
        boxes = [_around(frame.points(np.array(mark.box).reshape(2, 2)))]
        area = area or (boxes[0][2] - boxes[0][0]) * (boxes[0][3] - boxes[0][1])
    if not boxes:
        return Placed(None, 0, False)
    x0, y0 = (min(box[i] for box in boxes) for i in (0, 1))
    x1, y1 = (max(box[i] for box in boxes) for i in (2, 3))
    slack = 0.5 if mark.box is not None or not mark.lines else LINE
    clipped = min(x0, y0) < -slack or x1 > frame.width + slack or y1 > frame.height + slack
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(frame.width)), min(y1, float(frame.height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return Placed(None, 0, False)
    return Placed(box, area, clipped)


def _around(points: Points) -> Box:
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x0, y0, x1, y1


def _area(points: Points) -> float:
    """Returns the area of a polygon (shoelace formula)."""
    x, y = points.T
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0])) / 2


def mask_file(marks: Iterable[Mark], frame: Frame) -> Path:
    """Returns where the mask of these marks is kept in the user's cache: equal marks and sizes, equal files."""
    digest = hashlib.sha256(repr((_VERSION, LINE, frame)).encode())
    for mark in marks:
        runs = mark.runs
        facts = None if runs is None else (runs.width, runs.height, runs.by_column, runs.left, runs.top)
        digest.update(repr((mark.box, len(mark.polygons), len(mark.lines), facts)).encode())
        for part in (*mark.polygons, *mark.lines, *(() if runs is None else (runs.lengths,))):
            digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    key = digest.hexdigest()
    return cache_folder("masks") / key[:2] / f"{key}.png"


def write_mask(file: Path, marks: Iterable[Mark], frame: Frame) -> None:
    """Draws a mask and writes it as PNG, 0 and 255, whole or not at all; one that is there is kept.

    Raises:
        StorageError: The user's cache cannot be written.
    """
    if file.is_file():
        return
    data = cv2.imencode(".png", drawn(marks, frame))[1].tobytes()
    try:
        with whole_file(file) as scratch:
            scratch.write_bytes(data)
    except StorageError as error:
        raise StorageError(
            error.what,
            expected="a cache for the masks of annotations",
            fix="Set KNOWNGOOD_CACHE to a folder that can be written.",
        ) from error


def drawn(marks: Iterable[Mark], frame: Frame) -> npt.NDArray[np.uint8]:
    """Returns the mask of marks: uint8 (height, width), 255 on the defect.

    A mark that is only a box is drawn as a box, so that the mask leaves out no defect of its photograph. A polygon
    thinner than a pixel is drawn as a line.
    """
    mask = np.zeros((frame.height, frame.width), np.uint8)
    for mark in marks:
        polygons = [frame.points(points) for points in mark.polygons]
        if not mark.is_drawn and mark.box is not None:
            x0, y0, x1, y1 = _around(frame.points(np.array(mark.box).reshape(2, 2)))
            polygons = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]
        for outline in polygons:
            if not fill(mask, outline):
                _stroke(mask, outline, 1, closed=True)
        for line in mark.lines:
            _stroke(mask, frame.points(line), LINE, closed=False)
        if mark.runs is not None:
            mask[frame.bits(mark.runs)] = 255
    return mask


def fill(mask: npt.NDArray[np.uint8], outline: Points) -> bool:
    """Sets the pixels of `mask` (H, W) whose centres lie inside a polygon to 255; returns whether there are any."""
    height, width = mask.shape
    x0, y0, x1, y1 = _around(outline)
    left, top = max(math.floor(x0), 0), max(math.floor(y0), 0)
    right, bottom = min(math.ceil(x1), width), min(math.ceil(y1), height)
    if left >= right or top >= bottom:
        return False
    odd = np.zeros((bottom - top, right - left + 1), np.uint8)  # crossings of the outline left of each pixel's centre
    ends = np.roll(outline, -1, axis=0)
    for start in range(0, len(outline), _EDGES):
        (ax, ay), (bx, by) = outline[start : start + _EDGES].T, ends[start : start + _EDGES].T
        first = np.clip(np.ceil(np.minimum(ay, by) - 0.5), top, bottom).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(ay, by) - 0.5), top, bottom).astype(np.int64)
        count = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(count)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (bx - ax)[edge] / (by - ay)[edge]
        column = np.ceil(ax[edge] + (row + 0.5 - ay[edge]) * slope - 0.5)
        np.add.at(odd, (row - top, np.clip(column, left, right).astype(np.int64) - left), 1)
    inside = np.bitwise_xor.accumulate(odd & 1, axis=1)[:, :-1] == 1
    mask[top:bottom, left:right][inside] = 255
    return bool(inside.any())


def _stroke(mask: npt.NDArray[np.uint8], points: Points, width: int, *, closed: bool) -> None:
    """Draws a line, or a dot where there is one point."""
    high, wide = mask.shape
    inside = np.floor(np.clip(points, -wide - high, wide + high)).astype(np.int32)  # far out nothing is seen of it
    if len(inside) == 1:
        cv2.circle(mask, (int(inside[0, 0]), int(inside[0, 1])), width // 2, 255, -1)
    else:
        cv2.polylines(mask, [inside.reshape(-1, 1, 2)], closed, 255, width)

"""What the layers draw on: the image in grey levels before the camera, and where everything lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from knowngood.data.tape.lots import Lot

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1, half-open


@dataclass(frozen=True)
class Frame:
    """A place and a turn: coordinates of the pocket or of the part, in pixels around its middle.

    Attributes:
        x: Where the middle lies in the image, pixels.
        y: The same, downwards.
        angle: Turn, radians, positive is clockwise on the screen.
        width: Of the image, pixels.
        height: Of the image, pixels.
    """

    x: float
    y: float
    angle: float
    width: int
    height: int

    @cached_property
    def grid(self) -> tuple[F32, F32]:
        """Coordinates (u, v) of every pixel centre in this frame, each (H, W) float32."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        xs = np.arange(self.width, dtype=np.float32) + np.float32(0.5 - self.x)
        ys = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(0.5 - self.y)
        return xs * np.float32(c) + ys * np.float32(s), ys * np.float32(c) - xs * np.float32(s)

    def to_image(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Turns (N, 2) points of this frame into pixels of the image."""
        p = np.asarray(points, dtype=np.float64)
        c, s = math.cos(self.angle), math.sin(self.angle)
        turned = np.empty_like(p)
        turned[..., 0] = self.x + p[..., 0] * c - p[..., 1] * s
        turned[..., 1] = self.y + p[..., 0] * s + p[..., 1] * c
        return turned

    def bounds(self, box: Box) -> Box:
        """Returns the upright box in the image around a box of this frame."""
        x0, y0, x1, y1 = box
        corners = self.to_image([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        (a, b), (c, d) = corners.min(axis=0), corners.max(axis=0)
        return float(a), float(b), float(c), float(d)

    def window(self, box: Box, pad: float = 2.0) -> tuple[slice, slice]:
        """Returns the rows and columns of the image that hold a box of this frame."""
        return window(self.bounds(box), self.width, self.height, pad)


def window(box: Box, width: int, height: int, pad: float = 0.0) -> tuple[slice, slice]:
    """Returns rows and columns of an upright box, kept inside the image."""
    x0, y0, x1, y1 = box
    left, top = max(0, math.floor(x0 - pad)), max(0, math.floor(y0 - pad))
    right, bottom = min(width, math.ceil(x1 + pad)), min(height, math.ceil(y1 + pad))
    return slice(min(top, height), max(top, bottom)), slice(min(left, width), max(left, right))


@dataclass(frozen=True)
class Lead:
    """One lead in the part's frame.

    Attributes:
        box: Whole lead from tip to body.
        tip: -1 when its tip points up in the picture, +1 down.
        name: "upper left", "upper right", "upper" or "lower".
    """

    box: Box
    tip: int
    name: str


@dataclass
class Scene:
    """One unit while it is drawn.

    Attributes:
        image: (H, W) float32, grey levels before the camera; may pass 255, where the camera saturates.
        pocket: Frame of the pocket.
        part: Frame of the part.
        body: Box of the body in the part's frame.
        leads: The leads.
        lot: What this unit shares with its lot.
        family: Name of the package family.
        under_part: The empty pocket, (H, W) float32.
        under_leads: The part before its leads were drawn.
        marking: (H, W) float32, what marking and cathode lines added.
        marking_box: Where the characters lie in the image.
        tape: (H, W) bool, tape and pocket walls.
        scan: How strongly the lines of the camera's scan show, 1 = as on the diodes.
    """

    image: F32
    pocket: Frame
    part: Frame
    lot: Lot
    family: str
    body: Box = (0.0, 0.0, 0.0, 0.0)
    leads: tuple[Lead, ...] = ()
    under_part: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    under_leads: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    marking: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    marking_box: Box = (0.0, 0.0, 0.0, 0.0)
    tape: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    scan: float = 1.0

    @property
    def width(self) -> int:
        return self.part.width

    @property
    def height(self) -> int:
        return self.part.height

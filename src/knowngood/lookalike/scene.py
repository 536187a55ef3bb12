"""What the layers draw on: the image in grey levels before the camera, and where everything lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from knowngood.lookalike.lots import Lot

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


# One row a component: weight, middle x and y, median width and height, then standard deviations of the middle (pixels)
# and of the logarithms of width and height. Pixels of 275 x 267 pictures. Kolmogorov-Smirnov distance to the real
# boxes at most 0.10 in middle, width, height and area of every type (benchmarks/results/tape_statistics.json).
_Row = tuple[float, float, float, float, float, float, float, float, float]
MIXTURES: dict[str, tuple[_Row, ...]] = {
    "chipping": (
        (0.170, 129, 136, 212, 99, 7.4, 9.0, 0.04, 0.08),
        (0.075, 129, 166, 211, 38, 7.6, 10.3, 0.04, 0.31),
        (0.059, 221, 139, 31, 84, 8.2, 10.8, 0.32, 0.19),
        (0.058, 37, 135, 34, 96, 6.4, 10.6, 0.27, 0.07),
        (0.058, 213, 168, 47, 40, 9.5, 9.7, 0.28, 0.30),
        (0.051, 129, 104, 206, 38, 8.6, 10.5, 0.06, 0.30),
        (0.051, 211, 137, 51, 95, 8.0, 9.6, 0.22, 0.07),
        (0.045, 189, 171, 81, 31, 13.8, 8.8, 0.26, 0.26),
        (0.043, 54, 135, 56, 96, 8.8, 10.5, 0.26, 0.10),
        (0.036, 58, 166, 70, 39, 10.2, 11.6, 0.20, 0.28),
        (0.036, 44, 101, 40, 38, 10.7, 11.0, 0.37, 0.27),
        (0.034, 139, 165, 165, 37, 20.1, 11.6, 0.14, 0.42),
        (0.034, 81, 163, 104, 43, 12.8, 10.3, 0.22, 0.30),
        (0.034, 40, 166, 42, 42, 7.7, 11.1, 0.26, 0.32),
        (0.034, 39, 133, 33, 61, 9.3, 16.0, 0.34, 0.19),
        (0.031, 216, 106, 41, 37, 9.4, 9.7, 0.40, 0.43),
        (0.029, 176, 102, 101, 35, 18.5, 9.7, 0.35, 0.28),
        (0.028, 86, 102, 93, 29, 22.1, 10.5, 0.49, 0.40),
        (0.027, 181, 135, 100, 96, 14.4, 8.6, 0.29, 0.09),
        (0.023, 202, 122, 64, 63, 6.6, 12.3, 0.21, 0.21),
        (0.021, 195, 160, 82, 52, 9.5, 8.8, 0.23, 0.29),
        (0.021, 82, 133, 110, 97, 14.6, 9.1, 0.25, 0.07),
    ),
    "foreign_material": (
        (0.093, 128, 136, 206, 90, 7.6, 10.5, 0.05, 0.16),
        (0.088, 121, 105, 30, 24, 34.2, 13.2, 0.32, 0.24),
        (0.081, 131, 163, 157, 35, 19.3, 9.7, 0.23, 0.29),
        (0.069, 191, 162, 46, 32, 16.5, 10.5, 0.41, 0.25),
        (0.068, 144, 106, 101, 31, 28.1, 9.5, 0.33, 0.21),
        (0.068, 120, 162, 48, 31, 29.3, 14.0, 0.42, 0.23),
        (0.066, 120, 135, 139, 87, 23.0, 9.2, 0.24, 0.10),
        (0.066, 58, 163, 33, 28, 16.5, 11.9, 0.42, 0.28),
        (0.060, 158, 163, 24, 24, 38.5, 11.8, 0.35, 0.24),
        (0.059, 192, 107, 31, 27, 22.2, 11.4, 0.35, 0.24),
        (0.059, 136, 98, 93, 64, 50.7, 36.5, 0.55, 0.56),
        (0.053, 129, 107, 186, 38, 11.0, 9.0, 0.11, 0.23),
        (0.045, 81, 102, 66, 31, 18.1, 13.1, 0.44, 0.18),
        (0.031, 46, 112, 29, 27, 10.2, 14.5, 0.34, 0.29),
        (0.031, 196, 136, 53, 81, 22.1, 9.7, 0.37, 0.17),
        (0.030, 62, 137, 64, 84, 17.4, 12.1, 0.33, 0.13),
        (0.026, 164, 138, 118, 78, 10.4, 11.5, 0.20, 0.19),
        (0.007, 120, 223, 127, 66, 32.2, 13.1, 0.48, 0.20),
    ),
    "scratch": (
        (0.141, 129, 134, 206, 95, 8.1, 8.2, 0.04, 0.07),
        (0.122, 67, 135, 58, 91, 14.5, 9.6, 0.46, 0.07),
        (0.103, 172, 135, 93, 91, 17.7, 7.7, 0.40, 0.09),
        (0.098, 131, 140, 132, 49, 28.2, 24.1, 0.24, 0.38),
        (0.080, 62, 116, 42, 46, 17.1, 20.5, 0.39, 0.37),
        (0.078, 194, 160, 45, 38, 23.3, 10.6, 0.41, 0.37),
        (0.077, 129, 131, 206, 49, 6.7, 25.7, 0.04, 0.39),
        (0.057, 163, 109, 43, 37, 32.3, 9.8, 0.62, 0.34),
        (0.057, 125, 139, 48, 53, 10.1, 9.8, 0.33, 0.35),
        (0.054, 72, 164, 21, 33, 18.1, 10.6, 0.32, 0.37),
        (0.045, 106, 135, 156, 94, 9.8, 7.3, 0.12, 0.09),
        (0.039, 212, 143, 37, 89, 10.2, 8.4, 0.44, 0.04),
        (0.025, 73, 160, 65, 51, 12.7, 6.3, 0.31, 0.26),
        (0.025, 213, 136, 42, 65, 9.0, 18.7, 0.55, 0.37),
    ),
    "lead_glue": (
        (0.320, 194, 78, 30, 29, 6.7, 8.8, 0.20, 0.16),
        (0.235, 203, 72, 36, 35, 11.4, 10.0, 0.16, 0.20),
        (0.176, 56, 76, 30, 29, 8.6, 13.0, 0.18, 0.16),
        (0.148, 58, 69, 40, 42, 5.4, 9.8, 0.12, 0.20),
        (0.112, 129, 192, 32, 38, 9.7, 11.2, 0.26, 0.25),
        (0.010, 125, 133, 92, 65, 33.8, 33.4, 0.68, 0.81),
    ),
    "lead_defect": (
        (0.248, 204, 70, 47, 46, 13.6, 11.8, 0.24, 0.22),
        (0.148, 130, 120, 227, 174, 6.4, 10.1, 0.05, 0.11),
        (0.146, 131, 205, 49, 53, 9.8, 7.6, 0.15, 0.09),
        (0.103, 141, 189, 54, 47, 16.2, 11.1, 0.37, 0.13),
        (0.090, 74, 67, 48, 45, 16.1, 11.6, 0.22, 0.16),
        (0.072, 137, 208, 40, 34, 12.1, 7.7, 0.31, 0.19),
        (0.066, 140, 132, 231, 121, 5.3, 10.6, 0.06, 0.31),
        (0.034, 151, 169, 45, 29, 28.8, 5.5, 0.47, 0.33),
        (0.034, 43, 139, 35, 106, 11.8, 8.4, 0.45, 0.17),
        (0.030, 204, 127, 56, 138, 30.4, 18.7, 0.87, 0.23),
        (0.021, 127, 104, 205, 23, 5.3, 5.4, 0.01, 0.18),
        (0.009, 132, 56, 199, 59, 3.3, 1.0, 0.01, 0.02),
    ),
    "marking_defect": (
        (0.356, 128, 132, 166, 62, 2.5, 6.4, 0.02, 0.08),
        (0.314, 144, 127, 167, 65, 7.5, 3.8, 0.03, 0.12),
        (0.084, 139, 140, 169, 62, 8.0, 1.9, 0.03, 0.09),
        (0.081, 131, 151, 166, 77, 6.2, 11.0, 0.02, 0.07),
        (0.063, 119, 133, 176, 82, 8.0, 6.8, 0.17, 0.17),
        (0.051, 78, 133, 48, 61, 8.7, 5.5, 0.06, 0.05),
        (0.029, 203, 142, 43, 59, 6.5, 11.4, 0.20, 0.12),
        (0.011, 142, 128, 123, 61, 33.8, 0.8, 0.01, 0.02),
        (0.006, 72, 151, 70, 88, 0.4, 0.2, 0.01, 0.00),
        (0.006, 36, 123, 22, 104, 0.4, 0.2, 0.01, 0.00),
    ),
}
MIXTURES["pocket_damage"] = ((1.0, 131, 150, 148, 148, 25.0, 20.0, 0.30, 0.25),)
_SHIFT = np.array([4.5, 5.0])  # standard deviation of the parts' own places, which `follow` adds again


def sample_box(kind: str, rng: np.random.Generator) -> Box:
    """Draws a box of one defect type, as on a part in the average place.

    Args:
        kind: A key of `MIXTURES`.
        rng: Stream of the defect.

    Returns:
        x0, y0, x1, y1 in pixels of a 275 x 267 picture.
    """
    rows = np.array(MIXTURES[kind])
    row = rows[int(rng.choice(len(rows), p=rows[:, 0] / rows[:, 0].sum()))]
    draws = rng.standard_normal(4)
    spread = np.sqrt(np.maximum(np.square(row[5:7]) - np.square(_SHIFT), 0.3))
    x, y = row[1:3] + spread * draws[:2]
    width, height = row[3:5] * np.exp(row[7:9] * draws[2:])
    width, height = min(float(width), 272.0), min(float(height), 264.0)
    return float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2)


_LEAD_MIDDLES = {"upper left": (62.0, 78.0), "upper right": (200.0, 78.0), "lower": (134.5, 207.0)}
_LEAD_SIZE = (31.0, 50.0)


def follow(box: Box, middle: tuple[float, float], scale: tuple[float, float], scene: Scene) -> Box:
    """Moves a box's middle with the part; its width and height stay upright and are scaled.

    Args:
        box: In an average SOT23 picture.
        middle: Of the body in that picture.
        scale: Of the family against SOT23, across and down.
        scene: Gives the part's frame.

    Returns:
        The box in the scene's picture; it may pass the border.
    """
    x0, y0, x1, y1 = box
    centre = ((x0 + x1) / 2 - middle[0]) * scale[0], ((y0 + y1) / 2 - middle[1]) * scale[1]
    ((x, y),) = scene.part.to_image([centre])
    half_w, half_h = (x1 - x0) / 2 * scale[0], (y1 - y0) / 2 * scale[1]
    return float(x - half_w), float(y - half_h), float(x + half_w), float(y + half_h)


def on_lead(box: Box, scene: Scene) -> tuple[Box, Lead]:
    """Moves a box to the lead that it belongs to, keeping its place against that lead.

    Args:
        box: In an average SOT23 picture.
        scene: Gives the leads.

    Returns:
        The box in the scene's picture, and the lead.
    """
    x0, y0, x1, y1 = box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    name = "lower" if y > 150 else "upper right" if x > 130 else "upper left"
    lead = next((lead for lead in scene.leads if lead.name == name), None)
    lead = lead or next(lead for lead in scene.leads if lead.name == name.split(maxsplit=1)[0])
    a0, b0, a1, b1 = lead.box
    scale = (a1 - a0) / _LEAD_SIZE[0], (b1 - b0) / _LEAD_SIZE[1]
    from_lead = (x - _LEAD_MIDDLES[name][0]) * scale[0], (y - _LEAD_MIDDLES[name][1]) * scale[1]
    ((cx, cy),) = scene.part.to_image([((a0 + a1) / 2 + from_lead[0], (b0 + b1) / 2 + from_lead[1])])
    half_w, half_h = (x1 - x0) / 2 * scale[0], (y1 - y0) / 2 * scale[1]
    return (float(cx - half_w), float(cy - half_h), float(cx + half_w), float(cy + half_h)), lead

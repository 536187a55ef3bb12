"""Chipping: mould compound broken off at a corner or along an edge."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.scene import F32, Box, Scene
from knowngood.data.tape.shapes import contrast, pixels_of, size_of, wedge
from knowngood.data.tape.texture import box_alpha, field, grain


class Chipping:
    """A bright rough wedge flush with the outline, or a dark gap with a bright rim."""

    summary = "Mould compound broken off at a corner or an edge: the fresh break shines, or the corner is missing."
    count = 3681
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Breaks a piece off the body."""
        box = FAMILIES.get(scene.family)().placed(sample_box("chipping", rng), scene)
        box = _on_body(_wider(box), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        cover = wedge(rng, height, width, _corner(box, scene))
        outside = 1 - box_alpha(scene.part, scene.body, at, 2.0)
        small = height * width < 0.2 * (scene.body[2] - scene.body[0]) * (scene.body[3] - scene.body[1])
        missing = rng.random() < 0.35 and small
        flakes = np.clip(grain(rng, height, width, 7) * np.float32(0.5) + np.float32(0.38), 0, 1)
        cover *= 1 - outside * (np.float32(0.85) if missing else 1 - flakes)
        for lead in scene.leads:
            cover *= 1 - box_alpha(scene.part, lead.box, at, 1.5)
        image = scene.image.copy()
        texture = (
            1 + np.float32(0.20) * grain(rng, height, width, 1.5) + np.float32(0.22) * field(rng, height, width, 7, 9)
        )
        amount = contrast(severity, 5.0, 105.0)
        if missing:
            edge = np.abs(cv2.GaussianBlur(cover, (0, 0), 1.2) - cover) * 2
            gap = np.minimum(scene.under_part[at] - 4, image[at] - min(amount, 30.0) * np.float32(0.5))
            image[at] += (gap - image[at]) * cover * np.float32(min(1.0, amount / 14))
            image[at] += edge * np.float32(amount) * texture
        else:
            image[at] += cover * np.float32(amount) * texture * (1 - image[at] / np.float32(420))
        return image


def _wider(box: Box) -> Box:
    """Makes up for the thin ends of a wedge, which cannot be seen when it is faint."""
    x0, y0, x1, y1 = box
    return x0 - 0.02 * (x1 - x0), y0 - 0.04 * (y1 - y0), x1 + 0.02 * (x1 - x0), y1 + 0.04 * (y1 - y0)


def _on_body(box: Box, scene: Scene) -> Box:
    """Cuts a box to the body and a narrow rim: people draw boxes wider than the break."""
    x0, y0, x1, y1 = scene.part.bounds(scene.body)
    left, right = max(box[0], x0 - 12), min(box[2], x1 + 12)
    top, bottom = max(box[1], y0 - 13), min(box[3], y1 + 13)
    return (left, top, right, bottom) if right - left > 8 and bottom - top > 8 else box


def _corner(box: Box, scene: Scene) -> tuple[int, int]:
    """Which corner or edge of the body the box is nearest to, as signs."""
    part = scene.part
    c, s = np.cos(part.angle), np.sin(part.angle)
    x, y = (box[0] + box[2]) / 2 - part.x, (box[1] + box[3]) / 2 - part.y
    u, v = (x * c + y * s) / scene.body[2], (y * c - x * s) / scene.body[3]
    wide = (box[2] - box[0]) / (scene.body[2] - scene.body[0])
    if wide > 0.62:
        return 0, (1 if v >= 0 else -1)
    if abs(u) > 0.5:
        return int(np.sign(u)), int(np.sign(v)) if abs(v) > 0.12 else 0
    return 0, (1 if v >= 0 else -1)

"""Marking defect: characters that are faint, doubled, smeared, broken or missing."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.scene import F32, Box, Scene
from knowngood.data.tape.shapes import contrast, pixels_of, size_of
from knowngood.data.tape.texture import field, grain


class MarkingDefect:
    """The laser wrote badly."""

    summary = "The laser marking is faint, doubled, smeared, broken, or characters are missing."
    count = 175
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Spoils the characters inside a box."""
        box = _on_text(FAMILIES.get(scene.family)().placed(sample_box("marking_defect", rng), scene), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        image = scene.image.copy()
        amount = np.float32(min(1.0, contrast(severity, 0.10, 1.2)))
        ink = _ink(scene)
        kind = rng.random()
        if kind < 0.60:  # written twice, the second time at another place and size
            text = ink[pixels_of(scene.marking_box, scene.height, scene.width)]
            second = cv2.resize(_cut(text), (width, height), interpolation=cv2.INTER_AREA)
            image[at] += second * amount * np.float32(0.95) - ink[at] * amount * np.float32(rng.uniform(0.0, 0.8))
        elif kind < 0.97:  # smeared across the whole height of the box
            soot = np.clip(cv2.blur(ink[at], (max(3, width // 12), height)) * np.float32(2.0), 11, 60)
            cloud = np.clip(np.float32(0.9) + np.float32(0.2) * field(rng, height, width, 4, 7), 0.4, 1.4)
            speckle = 1 + np.float32(0.2) * grain(rng, height, width, 1.6)
            image[at] += (soot * cloud * speckle - ink[at] * np.float32(rng.uniform(0.3, 0.9))) * amount
        else:  # faint, broken or missing
            holes = np.clip(field(rng, height, width, 5, 9) * np.float32(2.5) + np.float32(rng.uniform(0.2, 3)), 0, 1)
            image[at] -= ink[at] * holes * amount
        return image


def _ink(scene: Scene) -> F32:
    """The characters alone: cathode lines lie outside the marking's box."""
    ink = np.zeros_like(scene.marking)
    at = pixels_of(scene.marking_box, scene.height, scene.width)
    ink[at] = scene.marking[at]
    return ink


def _cut(text: F32) -> F32:
    rows, columns = np.flatnonzero(text.max(axis=1) > 8), np.flatnonzero(text.max(axis=0) > 8)
    if not len(rows) or not len(columns):
        return text
    return np.ascontiguousarray(text[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _on_text(box: Box, scene: Scene) -> Box:
    """Diodes carry their text above the middle of the body: the box goes with the text."""
    if scene.family == "sot23":
        return box[0] + 0.5, box[1] + 1, box[2] - 0.5, box[3] - 1  # soft focus widens what is drawn
    _, y0, _, y1 = scene.marking_box
    middle = (y0 + y1) / 2 + ((box[1] + box[3]) / 2 - scene.part.y + 10) * 0.5
    half = (box[3] - box[1]) * 0.3
    return box[0], middle - half, box[2], middle + half

"""Foreign material: dust, a fibre or a splash that lies on the part."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.shapes import blob, contrast, curve, lines, pixels_of, size_of, wandering
from knowngood.data.tape.texture import field, grain


class ForeignMaterial:
    """A fuzzy grey blob, a bright curly fibre, a spray of thin lines, or a dark speck."""

    summary = "Something that does not belong there lies on the part: dust, a fibre, a splash of compound or tin."
    count = 1952
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Lays something on the part."""
        box = FAMILIES.get(scene.family)().placed(sample_box("foreign_material", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        slim = max(height, width) / min(height, width)
        kind = rng.random() * (1.0 if slim < 2.6 else 0.75)
        image = scene.image.copy()
        if kind < 0.34:
            steps = int(rng.integers(9, 22))
            cover = curve(
                wandering(rng, steps, float(rng.uniform(0.35, 0.9))), height, width, float(rng.uniform(1.5, 2.8))
            )
            cover *= np.clip(1 + np.float32(0.25) * field(rng, height, width, 4, 6), 0.4, 1.4)
            image[at] += cover * np.float32(contrast(severity, 9.0, 195.0))
        elif kind < 0.48:
            image[at] += _splash(rng, height, width) * np.float32(contrast(severity, 8.0, 130.0))
        elif kind < 0.94:
            cover = blob(rng, height, width, 0.35, float(rng.uniform(1.5, 5)))
            fuzz = (
                np.float32(0.85)
                + np.float32(0.09) * grain(rng, height, width, 2.0)
                + np.float32(0.2) * field(rng, height, width, 6, 8)
            )
            level = np.float32(scene.lot.brightness * 45 + contrast(severity, 6.0, 85.0))
            veil = np.float32(min(0.9, 0.12 + severity))  # what lies below shows through thin material
            target = level * fuzz
            lift = np.maximum(target - image[at], np.float32(3)) * veil
            image[at] += np.where(image[at] > target, (target - image[at]) * veil * np.float32(0.7), lift) * cover
        else:
            cover = blob(rng, height, width, 0.3, 5.0)
            image[at] *= 1 - cover * np.float32(min(0.75, 0.10 + 0.6 * severity))
        return image


def _splash(rng: np.random.Generator, height: int, width: int) -> F32:
    """Thin lines that fan out, with drops at random; reaches all four sides."""
    corners = np.array([[0.5, 0.5], [width - 0.5, height - 0.5]])
    if rng.random() < 0.5:
        corners[:, 1] = corners[::-1, 1]
    paths = [corners]
    for _ in range(int(rng.integers(2, 6))):
        start, end = rng.random((2, 2)) * np.array([width, height])
        paths.append(np.stack([start, start + (end - start) * rng.uniform(0.3, 1)]))
    cover = lines(paths, height, width, float(rng.uniform(1.0, 1.8)))
    for x, y, radius in rng.random((int(rng.integers(2, 9)), 3)):
        cv2.circle(cover, (int(x * width), int(y * height)), 1 + int(radius * 2), 0.9, -1, cv2.LINE_AA)
    return np.clip(cover * (np.float32(0.9) + np.float32(0.2) * grain(rng, height, width, 2)), 0, 1.2)

"""Scratch: the surface torn or smeared by something hard."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.shapes import blob, contrast, lines, pixels_of, size_of
from knowngood.data.tape.texture import field, grain


class Scratch:
    """A bundle of thin bright strokes along one direction, or a small torn patch."""

    summary = "The surface was scraped: a thin bright smear across body and marking, or a small torn patch."
    count = 749
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Scrapes the body."""
        box = FAMILIES.get(scene.family)().placed(sample_box("scratch", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        image = scene.image.copy()
        texture = 1 + np.float32(0.25) * grain(rng, height, width, 1.4)
        if height * width < 5000 and rng.random() < 0.55:
            torn = blob(rng, height, width, 0.6, 3.5)
            relief = np.float32(0.55) + np.float32(0.35) * field(
                rng, height, width, max(3, height // 5), max(3, width // 5)
            )
            image[at] += torn * relief * texture * np.float32(contrast(severity, 7.0, 85.0))
        else:
            image[at] += _smear(rng, height, width) * texture * np.float32(contrast(severity, 8.0, 110.0))
        return image


def _smear(rng: np.random.Generator, height: int, width: int) -> F32:
    """Strokes side by side from one corner of the box to the other."""
    ends = np.array([[0.7, 0.7], [width - 0.7, height - 0.7]])
    if rng.random() < 0.5:
        ends[:, 1] = ends[::-1, 1]
    middle = ends.mean(axis=0) + rng.normal(0, 0.10, 2) * np.array([width, height])
    spine = np.stack([ends[0], middle, ends[1]])
    paths = [spine]
    normal = np.array([height, width], float) * (1 if ends[0, 1] > ends[1, 1] else -1) * np.array([1, -1])
    normal /= np.linalg.norm(normal)
    spread = min(5.0, 0.14 * min(height, width))
    for _ in range(int(rng.integers(1, 6))):
        a, b = np.sort(rng.random(2))
        steps = np.linspace(a, b, 5)[:, None]
        first = (1 - steps) ** 2 * spine[0] + 2 * steps * (1 - steps) * spine[1] + steps**2 * spine[2]
        paths.append(first + normal * rng.normal(0, spread))
    cover = lines([spine], height, width, float(rng.uniform(1.2, 2.4)))
    return np.asarray(np.maximum(cover, lines(paths[1:], height, width, 1.0) * np.float32(0.7)), np.float32)

"""Pocket damage: the tape itself is dented or torn."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.families import FAMILIES
from knowngood.data.tape.places import sample_box
from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.shapes import blob, contrast, curve, pixels_of, size_of, wandering
from knowngood.data.tape.texture import box_alpha, field


class PocketDamage:
    """Bright creases and cloudy glare around the part."""

    summary = "The pocket of the tape is dented or torn: bright creases and glare around the part."
    count = 5
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Dents the pocket."""
        box = FAMILIES.get(scene.family)().placed(sample_box("pocket_damage", rng), scene)
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        free = 1 - np.float32(0.75) * box_alpha(scene.part, scene.body, at, 3.0)
        amount = np.float32(contrast(severity, 7.0, 110.0))
        creases = np.zeros((height, width), np.float32)
        for _ in range(3):
            bent = curve(wandering(rng, 5, 0.5), height, width, float(rng.uniform(1.2, 2.4)))
            creases = np.maximum(creases, bent * np.float32(rng.uniform(0.4, 1)))
        glare = blob(rng, height, width, 0.5, 2.0) * np.clip(
            field(rng, height, width, 5, 5) * np.float32(0.3) + np.float32(0.35), 0.12, 1
        )
        image = scene.image.copy()
        image[at] += (creases + glare * np.float32(0.5)) * free * amount
        return image

"""Empty pocket: no part in it."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.texture import field, grain


class EmptyPocket:
    """The floor with its round ejector mark and cloudy highlights."""

    summary = "No part in the pocket: the floor shows its round mark, and light clouds over the bare plastic."
    count = 203
    whole = True

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Takes the part away."""
        image = scene.under_part.copy()
        height, width = image.shape
        u, v = scene.pocket.grid
        radius = np.float32(0.18 * min(height, width) * rng.uniform(0.9, 1.1))
        ring = np.abs(np.hypot(u - np.float32(rng.normal(-3, 3)), v - np.float32(rng.normal(2, 3))) - radius)
        light = np.clip(np.float32(1.3) - ring, 0, 1) * np.clip(
            1 + field(rng, height, width, 4, 4) * np.float32(0.5), 0.3, 1.5
        )
        image += light * np.float32(rng.uniform(14, 30))
        inside = (np.abs(u) < 0.43 * width) & (np.abs(v) < 0.40 * height)
        cloud = np.clip(field(rng, height, width, 4, 5) - np.float32(0.3), 0, 3)
        away = np.clip((np.hypot(u / width, v / height) - np.float32(0.2)) * 5, 0, 1)
        glare = cloud * away * np.float32(rng.uniform(10, 45)) * (1 + np.float32(0.06) * grain(rng, height, width, 2))
        image += cv2.GaussianBlur(np.where(inside, glare + np.float32(6), 0).astype(np.float32), (0, 0), 2.0)
        return image

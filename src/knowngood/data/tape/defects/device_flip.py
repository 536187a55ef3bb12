"""Device flip: the part lies on its back."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.texture import box_alpha, field, grain


class DeviceFlip:
    """The underside: no marking, a round ejector mark, flat dim leads."""

    summary = "The part lies upside down: its underside shows no marking, and its leads lie flat and dim."
    count = 135
    whole = True

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Turns the part over."""
        image = scene.image - scene.marking
        at = scene.part.window(scene.body, 2)
        height, width = image[at].shape
        u, v = scene.part.grid
        surface = (
            np.float32(4)
            + field(rng, height, width, 5, 7) * np.float32(2.5)
            + grain(rng, height, width, 2) * np.float32(1.5)
        )
        image[at] += surface * box_alpha(scene.part, scene.body, at, 2.0)
        radius = np.float32(min(scene.body[3], scene.body[2]) * rng.uniform(0.34, 0.46))
        ring = np.abs(np.hypot(u - np.float32(rng.normal(0, 3)), v - np.float32(rng.normal(0, 2))) - radius)
        image += np.clip(np.float32(1.4) - ring, 0, 1) * np.float32(rng.uniform(16, 30))
        for lead in scene.leads:
            spot = scene.part.window(lead.box, 2)
            cover = box_alpha(scene.part, lead.box, spot, 1.2)
            rows, columns = image[spot].shape
            flat = np.float32(rng.uniform(75, 125)) * (1 + np.float32(0.12) * field(rng, rows, columns, 5, 4))
            flat += grain(rng, rows, columns, 1.5) * np.float32(7)
            image[spot] += (flat - image[spot]) * cover * np.float32(0.92)
        return image

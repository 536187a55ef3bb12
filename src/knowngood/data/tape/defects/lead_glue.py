"""Lead glue: mould compound or glue on a lead."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.places import sample_box
from knowngood.data.tape.placing import on_lead
from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.shapes import blob, contrast, pixels_of, size_of
from knowngood.data.tape.texture import field, grain


class LeadGlue:
    """A patch that covers plate and groove and widens the lead."""

    summary = "Glue or mould compound on a lead: its plate is covered or widened, its groove is filled."
    count = 625
    whole = False

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Smears glue on one lead."""
        (x0, y0, x1, y1), _ = on_lead(sample_box("lead_glue", rng), scene)
        box = x0 + 0.8, y0 + 0.8, x1 - 0.8, y1 - 0.8  # soft focus widens what is drawn
        at = pixels_of(box, scene.height, scene.width)
        height, width = size_of(at)
        cover = blob(rng, height, width, 0.3, 7.0)
        texture = (
            1 + np.float32(0.10) * grain(rng, height, width, 1.6) + np.float32(0.14) * field(rng, height, width, 5, 5)
        )
        image = scene.image.copy()
        level = np.float32(rng.choice([rng.uniform(120, 165), rng.uniform(180, 235)]))
        amount = np.float32(min(1.0, contrast(severity, 0.12, 1.2)))
        beside = image[at] < 65  # glue beside the lead is thinner and stays darker
        target = np.where(beside, np.minimum(level, np.float32(60 + 110 * amount)), level) * texture
        image[at] += (target - image[at]) * cover * amount
        return image

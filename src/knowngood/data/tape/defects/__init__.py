"""Defect types: each file here draws one; one line registers another. Counts are of the contest's second batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from knowngood.data.tape.scene import F32, Scene
from knowngood.registry import Registry


class Defect(Protocol):
    """One defect type. Implementations are plain classes without arguments."""

    summary: str  # what it stands for on the line, one sentence for the docs
    count: int  # how many a real batch had; sets the proportions
    whole: bool  # whether it changes the whole part, so that no second defect goes with it

    def draw(self, scene: Scene, severity: float, rng: np.random.Generator) -> F32:
        """Draws one defect on a unit.

        Args:
            scene: The unit; must not be changed.
            severity: From 0, nearly invisible, to 1, glaring.
            rng: Stream of this defect alone.

        Returns:
            (H, W) float32, the scene's image with the defect.
        """
        ...


DEFECTS: Registry[type[Defect]] = Registry(
    "defect type",
    "knowngood.tape_defects",
    {
        "chipping": "knowngood.data.tape.defects.chipping:Chipping",
        "foreign_material": "knowngood.data.tape.defects.foreign_material:ForeignMaterial",
        "scratch": "knowngood.data.tape.defects.scratch:Scratch",
        "lead_glue": "knowngood.data.tape.defects.lead_glue:LeadGlue",
        "lead_defect": "knowngood.data.tape.defects.lead_defect:LeadDefect",
        "empty_pocket": "knowngood.data.tape.defects.empty_pocket:EmptyPocket",
        "marking_defect": "knowngood.data.tape.defects.marking_defect:MarkingDefect",
        "device_flip": "knowngood.data.tape.defects.device_flip:DeviceFlip",
        "pocket_damage": "knowngood.data.tape.defects.pocket_damage:PocketDamage",
    },
)

"""Horizontal and vertical shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import uniform


@dataclass(frozen=True)
class Shift:
    """Moves by up to `fraction` of the width and of the height either way; edges are reflected."""

    fraction: float = 0.03
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, -self.fraction, self.fraction, generator, columns=2)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        matrix = torch.eye(3).repeat(len(parameters), 1, 1)
        matrix[:, :2, 2] = -2 * parameters  # the range -1..1 is two units wide
        return matrix

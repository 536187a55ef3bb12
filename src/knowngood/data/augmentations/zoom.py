"""Zoom in or out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import uniform


@dataclass(frozen=True)
class Zoom:
    """Magnifies by a factor between 1 / `factor` and `factor`, even in the logarithm."""

    factor: float = 1.08
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        reach = math.log(self.factor)
        return uniform(count, -reach, reach, generator).exp()

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        matrix = torch.eye(3).repeat(len(parameters), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / parameters[:, 0]
        return matrix

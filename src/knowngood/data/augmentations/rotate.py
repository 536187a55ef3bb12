"""Rotation by a small angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import uniform


@dataclass(frozen=True)
class Rotate:
    """Turns by up to `degrees` either way about the centre, keeping the photograph's proportions."""

    degrees: float = 3.0
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, -self.degrees, self.degrees, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3); `images` is the aspect width / height."""
        angle = torch.deg2rad(parameters[:, 0])
        matrix = torch.eye(3).repeat(len(angle), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
        matrix[:, 0, 1] = -torch.sin(angle) / images
        matrix[:, 1, 0] = torch.sin(angle) * images
        return matrix

"""Swapping the axes: with flips, all quarter turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import coin


@dataclass(frozen=True)
class QuarterTurns:
    """Transposes half of the time; on photographs that are not square this stretches, so leave it out there."""

    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return coin(count, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        transpose = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
        return torch.where(parameters[:, :, None] < 0, transpose, torch.eye(3))

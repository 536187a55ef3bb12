"""Mirroring left-right and top-bottom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import coin


@dataclass(frozen=True)
class Flip:
    """Mirrors each axis half of the time."""

    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return coin(count, generator, columns=2)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        return torch.diag_embed(torch.cat([parameters, torch.ones(len(parameters), 1)], dim=1))

"""Brighter or darker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import uniform


@dataclass(frozen=True)
class Brightness:
    """Multiplies values by 1 - `amount` to 1 + `amount`, as a lamp or an exposure would."""

    amount: float = 0.15
    kind: Literal["light"] = "light"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, 1 - self.amount, 1 + self.amount, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        return (images * parameters.view(-1, 1, 1, 1).to(images)).clamp(0, 1)

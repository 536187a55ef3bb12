"""More or less colour; grey photographs pass unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor

from knowngood.data.augmentations.drawing import uniform


@dataclass(frozen=True)
class Saturation:
    """Scales the distance of colours from their grey by 1 - `amount` to 1 + `amount`."""

    amount: float = 0.15
    kind: Literal["light"] = "light"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, 1 - self.amount, 1 + self.amount, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return (grey + (images - grey) * parameters.view(-1, 1, 1, 1).to(images)).clamp(0, 1)

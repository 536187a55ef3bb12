"""Grad-CAM: for any network and any layer."""

from __future__ import annotations

import torch
from torch import Tensor

from knowngood.explain.methods import Method


def gradcam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k a_k f_k), a_k the gradient of the margin averaged over the picture.

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the margin.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Selvaraju et al. 2017, equations 1 and 2.
    """
    assert gradients is not None
    return torch.einsum("bchw,bc->bhw", output, gradients.mean((2, 3))).relu()


GRADCAM = Method("Grad-CAM: any network, any layer", "gradients", gradcam)

"""Grad-CAM++: Grad-CAM that weighs places by how steeply they raise the margin."""

from __future__ import annotations

import torch
from torch import Tensor

from knowngood.explain.methods import Method

_EPSILON = 1e-6  # keeps the quotient finite where every gradient is 0


def gradcam_plus_plus(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k a_k f_k) with a_k = sum over places of alpha relu(gradient).

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the margin.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Chattopadhay et al. 2018, equations 10, 11 and 19: alpha = g^2 / (2 g^2 + sum(f) g^3), the exponential of
        the score taken, for which the higher derivatives are powers of the first.
    """
    assert gradients is not None
    squared = gradients.square()
    bottom = 2 * squared + output.sum((2, 3), keepdim=True) * squared * gradients + _EPSILON
    alpha = torch.where(gradients != 0, squared / bottom, 0)
    weights = (gradients.relu() * alpha).sum((2, 3))
    return torch.einsum("bchw,bc->bhw", output, weights).relu()


GRADCAM_PLUS_PLUS = Method("Grad-CAM++: several faults of one kind", "gradients", gradcam_plus_plus)

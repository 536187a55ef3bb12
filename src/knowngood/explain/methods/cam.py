"""The class activation map of networks with global average pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from knowngood.explain.methods import Method


def cam(output: Tensor, weights: Tensor | None) -> Tensor:
    """Returns M(x, y) = sum_k w_k f_k(x, y); its average over the picture, plus the bias, is the margin.

    Args:
        output: (B, C, h, w) of the layer that is averaged.
        weights: (C,) of the last layer, bad minus good.

    Returns:
        (B, h, w), signed.

    Reference:
        Zhou et al. 2016, equations 1 and 2. The weights are those of the margin, bad minus good: of two outputs
        only their difference decides.
    """
    assert weights is not None
    return torch.einsum("bchw,c->bhw", output, weights)


CAM = Method("CAM: exact, for networks that average their last maps; one forward pass", "weights", cam, True)

"""EigenCAM: what varies most over the picture, whatever the classes are."""

from __future__ import annotations

import torch
from torch import Tensor

from knowngood.explain.methods import Method


def eigencam(output: Tensor, _: Tensor | None) -> Tensor:
    """Returns relu of the centred output projected on its first principal direction.

    Args:
        output: (B, C, h, w).
        _: Nothing: no class, no gradient.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Muhammad and Yeasin 2020, equation 2, on centred output. The sign of a principal direction is open; here it
        is the one along which the outputs are large.
    """
    rows = output.flatten(2).transpose(1, 2)  # (B, h w, C)
    centred = rows - rows.mean(1, keepdim=True)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[:, :1]  # (B, 1, C)
    along = (centred * direction).sum(2)
    sign = torch.where((along * rows.sum(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    heat: Tensor = (sign * along).relu().unflatten(1, output.shape[2:])
    return heat


EIGENCAM = Method("EigenCAM: what stands out in the picture, without a class", "nothing", eigencam)

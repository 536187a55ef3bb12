"""LayerCAM: each place weighed by its own gradient, so that early layers keep their detail."""

from __future__ import annotations

from torch import Tensor

from knowngood.explain.methods import Method


def layercam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k relu(g_k(x, y)) f_k(x, y)).

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the margin.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Jiang et al. 2021, equations 5 and 6.
    """
    assert gradients is not None
    return (gradients.relu() * output).sum(1).relu()


LAYERCAM = Method("LayerCAM: fine maps out of early layers", "gradients", layercam)

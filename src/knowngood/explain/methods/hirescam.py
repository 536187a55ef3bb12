"""HiResCAM: the margin laid out over the picture, whatever the head."""

from __future__ import annotations

from torch import Tensor

from knowngood.explain.methods import Method


def hirescam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns sum_k g_k(x, y) f_k(x, y) times the number of places.

    With global average pooling that is CAM; with a kernel head it is the head's linearisation at this photograph.

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the margin.

    Returns:
        (B, h, w), signed; its average is what the margin owes to the layer, to first order.

    Reference:
        Draelos and Carin 2020, equation 4; times h w here, so that layers of different size share one unit.
    """
    assert gradients is not None
    return (gradients * output).sum(1) * (output.shape[2] * output.shape[3])


HIRESCAM = Method("HiResCAM: the margin laid out over the picture, for any head", "gradients", hirescam, True)

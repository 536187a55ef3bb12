"""CAM methods: one function each; add one line to `METHODS` to register another.

A map is computed from the output of one layer and from its influence on the raw score (logit of bad minus logit of
good). It stays raw: nothing is scaled to one image, so that maps of different photographs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from knowngood.registry import Registry

if TYPE_CHECKING:  # torch costs seconds, and the names of the methods are checked without it
    from torch import Tensor

Needs: TypeAlias = Literal["weights", "gradients", "nothing"]


@dataclass(frozen=True)
class Method:
    """One way of making maps.

    Attributes:
        summary: One line for tables and help.
        needs: What `make` gets besides the layer's output: "weights" of the last layer, bad minus good, (C,);
            "gradients" of the raw score, (B, C, h, w); "nothing": None.
        make: Takes the output (B, C, h, w) float32 and what it needs; returns raw maps (B, h, w) float32, higher
            where the evidence for bad is.
        signed: Whether values below 0 have a meaning (evidence for good).
    """

    summary: str
    needs: Needs
    make: Callable[[Tensor, Tensor | None], Tensor]
    signed: bool = False


METHODS: Registry[Method] = Registry(
    "map method",
    "knowngood.map_methods",
    {
        "cam": "knowngood.cam.methods:CAM",
        "gradcam": "knowngood.cam.methods:GRADCAM",
        "gradcam++": "knowngood.cam.methods:GRADCAM_PLUS_PLUS",
        "layercam": "knowngood.cam.methods:LAYERCAM",
        "hirescam": "knowngood.cam.methods:HIRESCAM",
        "eigencam": "knowngood.cam.methods:EIGENCAM",
    },
)


def cam(output: Tensor, weights: Tensor | None) -> Tensor:
    """Returns M(x, y) = sum_k w_k f_k(x, y); its average over the image plus the bias is the raw score.

    Args:
        output: (B, C, h, w) of the layer that is averaged.
        weights: (C,) of the last layer, bad minus good.

    Returns:
        (B, h, w), signed.

    Reference:
        Zhou et al. 2016, equations 1 and 2. The weights are those of bad minus those of good: of two logits
        only the difference decides.
    """
    import torch

    assert weights is not None
    return torch.einsum("bchw,c->bhw", output, weights)


CAM = Method("CAM: exact, for networks that average their last maps; one forward pass", "weights", cam, True)


def gradcam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k a_k f_k), a_k the gradient of the raw score averaged over the picture.

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the raw score.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Selvaraju et al. 2017, equations 1 and 2.
    """
    import torch

    assert gradients is not None
    return torch.einsum("bchw,bc->bhw", output, gradients.mean((2, 3))).relu()


GRADCAM = Method("Grad-CAM: any network, any layer", "gradients", gradcam)


_EPSILON = 1e-6  # keeps the quotient finite where every gradient is 0


def gradcam_plus_plus(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k a_k f_k) with a_k = sum over places of alpha relu(gradient).

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the raw score.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Chattopadhay et al. 2018, equations 10, 11 and 19: alpha = g^2 / (2 g^2 + sum(f) g^3), the exponential of
        the score taken, for which the higher derivatives are powers of the first.
    """
    import torch

    assert gradients is not None
    squared = gradients.square()
    bottom = 2 * squared + output.sum((2, 3), keepdim=True) * squared * gradients + _EPSILON
    alpha = torch.where(gradients != 0, squared / bottom, 0)
    weights = (gradients.relu() * alpha).sum((2, 3))
    return torch.einsum("bchw,bc->bhw", output, weights).relu()


GRADCAM_PLUS_PLUS = Method("Grad-CAM++: several faults of one kind", "gradients", gradcam_plus_plus)


def hirescam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns sum_k g_k(x, y) f_k(x, y) times the number of places.

    With global average pooling this equals CAM; with an SVM head it is the head linearised at this photograph.

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the raw score.

    Returns:
        (B, h, w), signed; its average is the part of the raw score due to the layer, to first order.

    Reference:
        Draelos and Carin 2020, equation 4; times h w here, so that layers of different size share one unit.
    """
    assert gradients is not None
    return (gradients * output).sum(1) * (output.shape[2] * output.shape[3])


HIRESCAM = Method("HiResCAM: the raw score spread over the image, for any head", "gradients", hirescam, True)


def layercam(output: Tensor, gradients: Tensor | None) -> Tensor:
    """Returns relu(sum_k relu(g_k(x, y)) f_k(x, y)).

    Args:
        output: (B, C, h, w).
        gradients: (B, C, h, w) of the raw score.

    Returns:
        (B, h, w) >= 0.

    Reference:
        Jiang et al. 2021, equations 5 and 6.
    """
    assert gradients is not None
    return (gradients.relu() * output).sum(1).relu()


LAYERCAM = Method("LayerCAM: fine maps out of early layers", "gradients", layercam)


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
    import torch

    rows = output.flatten(2).transpose(1, 2)  # (B, h w, C)
    centred = rows - rows.mean(1, keepdim=True)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[:, :1]  # (B, 1, C)
    along = (centred * direction).sum(2)
    sign = torch.where((along * rows.sum(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    heat: Tensor = (sign * along).relu().unflatten(1, output.shape[2:])
    return heat


EIGENCAM = Method("EigenCAM: what stands out in the picture, without a class", "nothing", eigencam)

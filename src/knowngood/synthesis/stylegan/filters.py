"""The binomial filter between stages of doubled side: nothing aliases on the way up or down (Karras et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TAPS = (1.0, 3.0, 3.0, 1.0)


def _taps(like: Tensor) -> Tensor:
    """Returns the binomial filter [1, 3, 3, 1] both ways, (4, 4), of sum 1."""
    taps = torch.tensor(TAPS, dtype=like.dtype, device=like.device)
    return torch.outer(taps, taps) / taps.sum().square()


def upsample(images: Tensor) -> Tensor:
    """Doubles the side: zeros between the pixels, then the filter. (B, C, H, W) to (B, C, 2H, 2W)."""
    kernel = (4 * _taps(images)).expand(images.shape[1], 1, 4, 4)
    return functional.conv_transpose2d(images, kernel, stride=2, padding=1, groups=images.shape[1])


class _Blur(torch.autograd.Function):
    """The filter as a linear map that is its own adjoint but for the padding: derivatives of any order are cheap."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        kernel = _taps(images).expand(images.shape[1], 1, 4, 4)
        with torch.autocast(images.device.type, enabled=False):
            return functional.conv2d(functional.pad(images, [pad] * 4), kernel, groups=images.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return blur(gradients[0], 3 - ctx.pad), None


def blur(images: Tensor, pad: int) -> Tensor:
    """Filters (B, C, H, W) with `pad` zeros all around, to (B, C, H + 2 pad - 3, W + 2 pad - 3).

    Measured on a CPU, this and a convolution that drops pixels are twice as fast as one with both kernels joined.
    """
    made: Tensor = _Blur.apply(images, pad)  # type: ignore[no-untyped-call]
    return made

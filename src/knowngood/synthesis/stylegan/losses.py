"""What networks and trainings of a StyleGAN share: binomial filter, square photographs, losses, penalties."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
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


Pixels = npt.NDArray[np.uint8]
Rule = Literal["pad", "crop", "stretch"]


class Square(BaseModel):
    """How a photograph becomes square before it is resized; kept with a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule = Field(
        "pad",
        description="Photographs that are not square: pad repeats their edges, crop takes the centre, stretch neither.",
    )

    @property
    def cache_key(self) -> list[object]:
        """What the key of a cache gets."""
        return [["square", self.rule]]

    def apply(self, image: Pixels) -> Pixels:
        """Returns a photograph (H, W) or (H, W, 3) as a square one, or as it is where it will be stretched."""
        height, width = image.shape[:2]
        if self.rule == "stretch" or height == width:
            return image
        if self.rule == "crop":
            top, left, side = (height - (m := min(height, width))) // 2, (width - m) // 2, m
            return image[top : top + side, left : left + side]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        around = [(top, side - height - top), (left, side - width - left)]
        return np.pad(image, [*around, *[(0, 0)] * (image.ndim - 2)], mode="edge")

    def back(self, picture: Pixels, height: int, width: int) -> Pixels:
        """Returns a square picture at a photograph's size: padding is cut off; a cropped one stays square.

        Args:
            picture: (R, R) or (R, R, 3) uint8.
            height: Of the photographs, pixels.
            width: The same.

        Returns:
            (height, width) or (height, width, 3); with the rule crop both are the smaller of the two.
        """
        if self.rule == "crop":
            height = width = min(height, width)
        if self.rule == "pad" and height != width:
            side = max(height, width)
            whole = _resized(picture, side, side)
            top, left = (side - height) // 2, (side - width) // 2
            return np.ascontiguousarray(whole[top : top + height, left : left + width])
        return _resized(picture, height, width)


def _resized(picture: Pixels, height: int, width: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    made = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(made, np.uint8)


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of logits (B,) of samples: mean of -log sigmoid (Goodfellow et al. 2014, section 3)."""
    return functional.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Logistic loss of logits (B,) of photographs and of samples."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Minus the mean of logits of samples: what goes with `discriminator_hinge` (Lim & Ye 2017, equation 8)."""
    return -fake.mean()


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss: nothing is gained by logits beyond 1 for photographs and -1 for samples (Lim & Ye 2017)."""
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def gradient_penalty(score: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
    """R1: half the mean squared gradient of the logits by the photographs.

    Taken at what the discriminator sees, that is after its augmentation.

    Args:
        score: From pictures (B, C, R, R) to logits (B,).
        pictures: Photographs, augmented.

    Reference:
        Mescheder et al. 2018, equation 9, without the weight.
    """
    pictures = pictures.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(pictures).sum(), pictures, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def path_lengths(synthesis: Callable[[Tensor], Tensor], ws: Tensor) -> Tensor:
    """How far a picture moves when its styles do, for each sample (B,).

    Args:
        synthesis: From styles (B, layers, latent) to pictures (B, C, H, W).
        ws: Styles.

    Reference:
        Karras et al. 2020a, equation 4 and appendix B: the norm of the Jacobian's transpose times a random picture
        of unit variance over the square root of its pixels, averaged over layers.
    """
    if not ws.requires_grad:
        ws = ws.detach().requires_grad_(True)
    pictures = synthesis(ws)
    noise = torch.randn_like(pictures) / math.sqrt(pictures.shape[2] * pictures.shape[3])
    (gradient,) = torch.autograd.grad((pictures * noise).sum(), ws, create_graph=True)
    return gradient.float().square().sum(dim=2).mean(dim=1).sqrt()


def path_penalty(lengths: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of path lengths (B,) from their running mean (Karras et al. 2020a, equation 4)."""
    return (lengths - target).square().mean()

"""What the networks are taught by: the non-saturating loss, and two penalties on gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


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

"""Applying a policy to a batch: all geometry in one resampling, then the light transforms in order."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from knowngood.data.augmentations import AUGMENTATIONS, POLICIES, Augmentation
from knowngood.errors import UnknownNameError


def policy_named(name: str) -> tuple[Augmentation, ...]:
    """Returns the transforms of a policy; "a+b" names single transforms.

    Raises:
        UnknownNameError: Neither a policy nor transforms joined with "+".
    """
    names = POLICIES.get(name, tuple(name.split("+")))
    try:
        return tuple(AUGMENTATIONS.get(each)() for each in names)
    except UnknownNameError as error:
        raise UnknownNameError(
            f"There is no augmentation policy {name!r}.",
            expected=", ".join(POLICIES) + ", or transforms joined with +: " + ", ".join(AUGMENTATIONS),
        ) from error


def augment(images: Tensor, policy: tuple[Augmentation, ...], generator: Generator) -> Tensor:
    """Returns a transformed copy of a batch.

    Args:
        images: (B, C, H, W) uint8 or float, 0..255.
        policy: Transforms in the order in which they are applied.
        generator: CPU generator; the same state gives the same batch.

    Returns:
        (B, C, H, W) float32, 0..255.
    """
    values = images.float() / 255
    aspect = torch.tensor(images.shape[3] / images.shape[2])
    total = torch.eye(3).repeat(len(images), 1, 1)
    geometric = [t for t in policy if t.kind == "geometry"]
    for transform in geometric:
        total = total @ transform.apply(aspect, transform.draw(len(images), generator))
    if geometric:
        grid = functional.affine_grid(total[:, :2].to(values), list(values.shape), align_corners=False)
        values = functional.grid_sample(values, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    for transform in (t for t in policy if t.kind == "light"):
        values = transform.apply(values, transform.draw(len(images), generator))
    return values * 255

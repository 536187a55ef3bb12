"""Applying a policy to a batch: all geometry in one resampling, then the light transforms in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import functional

from knowngood.data.augmentations import AUGMENTATIONS, Augmentation, names_in
from knowngood.errors import ConfigError

Policy: TypeAlias = tuple[Augmentation, ...]
Parameters: TypeAlias = tuple[Tensor, ...]  # one (B, P) for each transform of a policy


def policy_named(name: str, ranges: Mapping[str, float] | None = None) -> Policy:
    """Returns the transforms of a policy; "a+b" names single transforms.

    Args:
        name: Of a policy, or transforms joined with "+".
        ranges: Transform to its range, in its own unit (the first field of its class); others keep theirs.

    Raises:
        UnknownNameError: Neither a policy nor transforms joined with "+".
        ConfigError: A range is of a transform that the policy has not.
    """
    ranges = ranges or {}
    kinds = {each: AUGMENTATIONS.get(each) for each in names_in(name)}
    for stray in ranges.keys() - kinds.keys():
        raise ConfigError(
            f"A range is given for {stray}, which is not in the augmentation policy {name!r}.",
            expected=f"ranges of {', '.join(kinds) or 'nothing'}",
            fix=f"--augment {'+'.join([*kinds, stray])}",
        )
    return tuple(_made(kinds[each], ranges.get(each)) for each in names_in(name))


def _made(kind: Any, reach: float | None) -> Augmentation:
    made: Augmentation = kind() if reach is None else kind(**{fields(kind)[0].name: reach})
    return made


def draw(policy: Policy, count: int, generator: Generator) -> Parameters:
    """Draws parameters for `count` images, geometry first.

    Args:
        policy: Transforms in the order in which they are applied.
        count: How many images.
        generator: CPU generator; the same state draws the same.

    Returns:
        (count, P) float32 for each transform, in the order of the policy.
    """
    drawn: dict[int, Tensor] = {}
    for kind in ("geometry", "light"):
        drawn |= {i: t.draw(count, generator) for i, t in enumerate(policy) if t.kind == kind}
    return tuple(drawn[i] for i in range(len(policy)))


def geometry(policy: Policy, parameters: Parameters, aspect: float) -> Tensor | None:
    """Returns the whole geometry as matrices (B, 3, 3) from output to input coordinates, or None where there is none.

    Args:
        policy: Transforms.
        parameters: Of `draw`.
        aspect: Width / height of the images.
    """
    total = None
    for transform, drawn in zip(policy, parameters, strict=True):
        if transform.kind == "geometry":
            matrix = transform.apply(torch.tensor(aspect), drawn)
            total = matrix if total is None else total @ matrix
    return total


def resampled(
    values: Tensor, matrices: Tensor, mode: Literal["bilinear", "nearest"], edges: Literal["reflection", "zeros"]
) -> Tensor:
    """Returns images (B, C, H, W) float moved by matrices (B, 3, 3); `edges` is what lies outside of a picture."""
    grid = functional.affine_grid(matrices[:, :2].to(values), list(values.shape), align_corners=False)
    return functional.grid_sample(values, grid, mode=mode, padding_mode=edges, align_corners=False)


def transformed(images: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """Returns a copy of a batch, transformed by given parameters.

    Args:
        images: (B, C, H, W) uint8 or float, 0..255.
        policy: Transforms in the order in which they are applied.
        parameters: Of `draw`, for B images.

    Returns:
        (B, C, H, W) float32, 0..255.
    """
    values = images.float() / 255
    matrices = geometry(policy, parameters, images.shape[3] / images.shape[2])
    if matrices is not None:
        values = resampled(values, matrices, "bilinear", "reflection")
    for transform, drawn in zip(policy, parameters, strict=True):
        if transform.kind == "light":
            values = transform.apply(values, drawn)
    return values * 255


def augment(images: Tensor, policy: Policy, generator: Generator) -> Tensor:
    """Returns a copy of a batch, transformed at random: what training does on the fly.

    Args:
        images: (B, C, H, W) uint8 or float, 0..255.
        policy: Transforms in the order in which they are applied.
        generator: CPU generator; the same state gives the same batch.

    Returns:
        (B, C, H, W) float32, 0..255.
    """
    return transformed(images, policy, draw(policy, len(images), generator))

"""Image transforms for training: a class each, drawn anew for every image; `knowngood.data.config` registers them.

Geometry is a 3x3 matrix, so that any number of them costs one resampling and can be applied to masks and boxes;
light acts on values. A policy is a list of registered names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import functional

from knowngood.data.config import AUGMENTATIONS, names_in
from knowngood.errors import ConfigError


class Augmentation(Protocol):
    """One transform, constructed with its ranges (all optional)."""

    kind: Literal["geometry", "light"]

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Draws parameters (count, P) float32, one row an image."""
        ...

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Applies the transform.

        Args:
            images: For light: (B, C, H, W) float in 0..1. For geometry: the aspect (width / height) as a 0-d tensor.
            parameters: (B, P) rows of `draw`.

        Returns:
            For light: images like the input, values in 0..1. For geometry: matrices (B, 3, 3) that take output
            coordinates to input coordinates, both in -1..1 (x right, y down).
        """
        ...


def uniform(count: int, low: float, high: float, generator: Generator, columns: int = 1) -> Tensor:
    """Returns (count, columns) float32 between `low` and `high`."""
    return low + (high - low) * torch.rand(count, columns, generator=generator)


def coin(count: int, generator: Generator, columns: int = 1) -> Tensor:
    """Returns (count, columns) of -1 and 1, each half of the time."""
    return 1 - 2 * (torch.rand(count, columns, generator=generator) < 0.5).float()


@dataclass(frozen=True)
class Brightness:
    """Multiplies values by 1 - `amount` to 1 + `amount`, as a lamp or an exposure would."""

    amount: float = 0.15
    kind: Literal["light"] = "light"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, 1 - self.amount, 1 + self.amount, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        return (images * parameters.view(-1, 1, 1, 1).to(images)).clamp(0, 1)


@dataclass(frozen=True)
class Contrast:
    """Scales the distance of values from the photograph's mean by 1 - `amount` to 1 + `amount`."""

    amount: float = 0.15
    kind: Literal["light"] = "light"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, 1 - self.amount, 1 + self.amount, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        return (mean + (images - mean) * parameters.view(-1, 1, 1, 1).to(images)).clamp(0, 1)


@dataclass(frozen=True)
class Saturation:
    """Scales the distance of colours from their grey by 1 - `amount` to 1 + `amount`."""

    amount: float = 0.15
    kind: Literal["light"] = "light"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, 1 - self.amount, 1 + self.amount, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return (grey + (images - grey) * parameters.view(-1, 1, 1, 1).to(images)).clamp(0, 1)


@dataclass(frozen=True)
class Flip:
    """Mirrors each axis half of the time."""

    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return coin(count, generator, columns=2)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        return torch.diag_embed(torch.cat([parameters, torch.ones(len(parameters), 1)], dim=1))


@dataclass(frozen=True)
class QuarterTurns:
    """Transposes half of the time; on photographs that are not square this stretches, so leave it out there."""

    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return coin(count, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        transpose = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
        return torch.where(parameters[:, :, None] < 0, transpose, torch.eye(3))


@dataclass(frozen=True)
class Rotate:
    """Turns by up to `degrees` either way about the centre, keeping the photograph's proportions."""

    degrees: float = 3.0
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, -self.degrees, self.degrees, generator)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3); `images` is the aspect width / height."""
        angle = torch.deg2rad(parameters[:, 0])
        matrix = torch.eye(3).repeat(len(angle), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
        matrix[:, 0, 1] = -torch.sin(angle) / images
        matrix[:, 1, 0] = torch.sin(angle) * images
        return matrix


@dataclass(frozen=True)
class Shift:
    """Moves by up to `fraction` of the width and of the height either way; edges are reflected."""

    fraction: float = 0.03
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        return uniform(count, -self.fraction, self.fraction, generator, columns=2)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        matrix = torch.eye(3).repeat(len(parameters), 1, 1)
        matrix[:, :2, 2] = -2 * parameters  # the range -1..1 is two units wide
        return matrix


@dataclass(frozen=True)
class Zoom:
    """Magnifies by a factor between 1 / `factor` and `factor`, even in the logarithm."""

    factor: float = 1.08
    kind: Literal["geometry"] = "geometry"

    def draw(self, count: int, generator: Generator) -> Tensor:
        reach = math.log(self.factor)
        return uniform(count, -reach, reach, generator).exp()

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Returns matrices (B, 3, 3)."""
        matrix = torch.eye(3).repeat(len(parameters), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / parameters[:, 0]
        return matrix


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

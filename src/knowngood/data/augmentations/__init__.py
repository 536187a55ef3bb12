"""Image transforms for training: each file is one transform drawn per image; add one line to register another.

Geometry is a 3x3 matrix, so that any number of them costs one resampling and can be applied to masks and boxes;
light acts on values. A policy is a list of registered names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from knowngood.errors import UnknownNameError
from knowngood.registry import Registry

if TYPE_CHECKING:  # too heavy where only a name is looked up
    from torch import Generator, Tensor


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


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation",
    "knowngood.augmentations",
    {
        "rotate": "knowngood.data.augmentations.rotate:Rotate",
        "shift": "knowngood.data.augmentations.shift:Shift",
        "zoom": "knowngood.data.augmentations.zoom:Zoom",
        "flip": "knowngood.data.augmentations.flip:Flip",
        "quarter_turns": "knowngood.data.augmentations.quarter_turns:QuarterTurns",
        "brightness": "knowngood.data.augmentations.brightness:Brightness",
        "contrast": "knowngood.data.augmentations.contrast:Contrast",
        "saturation": "knowngood.data.augmentations.saturation:Saturation",
    },
)

POLICIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "study": ("rotate", "shift", "brightness", "contrast", "saturation"),
    "standard": ("rotate", "shift", "flip", "brightness", "contrast", "saturation"),
    "strong": ("rotate", "shift", "zoom", "flip", "quarter_turns", "brightness", "contrast", "saturation"),
}


def names_in(policy: str) -> tuple[str, ...]:
    """Returns the names of a policy's transforms; "a+b" names single transforms.

    Raises:
        UnknownNameError: Neither a policy nor transforms joined with "+".
    """
    names = POLICIES.get(policy, tuple(policy.split("+")))
    if not all(name in AUGMENTATIONS for name in names):
        raise UnknownNameError(
            f"There is no augmentation policy {policy!r}.",
            expected=", ".join(POLICIES) + ", or transforms joined with +: " + ", ".join(AUGMENTATIONS),
        )
    return names

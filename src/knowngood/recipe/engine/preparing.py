"""From one item to what a network takes: read, digested, decoded, at its size, or the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knowngood.data.containers import JPEG_SIGNATURE
from knowngood.data.images import decode, depth_of, probe
from knowngood.errors import ImageError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.engine.items import Item
from knowngood.recipe.engine.profile import Profile

SHARPER = 2  # a JPEG may be decoded at a part of its size that is still so many times the network's, both ways
READ, DECODE, RESIZE = "read", "decode", "resize"
Known = Callable[[str, str], bool]


@dataclass(frozen=True)
class Ready:
    """One item on its way.

    Attributes:
        name: Of the photograph.
        digest: SHA-256 of its bytes, or of its pixels where it was given as such; None when they could not be read.
        size: Height and width of the photograph; (0, 0) when it was not decoded.
        pixels: (C, H, W) uint8; None when it could not be decoded or was known.
        error: Why it could not be read, or None.
        reason: Why a person must look at it whatever its score, or None.
        known: Whether it needs no scoring.
    """

    name: str
    digest: str | None
    size: tuple[int, int] = (0, 0)
    pixels: npt.NDArray[np.uint8] | None = None
    error: str | None = None
    reason: str | None = None
    known: bool = False


class Preparing:
    """Prepares items in threads.

    Args:
        recipe: Says what size and what is done first.
        profile: Is told the time that it takes.
        known: Given name and digest, says whether a photograph needs no scoring.
        any_product: Whether photographs are not compared with those that the recipe learned from.
    """

    def __init__(
        self, recipe: Recipe, profile: Profile, known: Known | None = None, *, any_product: bool = False
    ) -> None:
        self.recipe, self.profile, self.known, self.any_product = recipe, profile, known, any_product
        _, height, width = recipe.input_shape
        plain = not recipe.manifest.preprocessing.made_by  # regions and leads are looked for at the full size
        self.at_least = (SHARPER * height, SHARPER * width) if plain else None

    def __call__(self, item: Item) -> Ready:
        """Returns the item, prepared."""
        digest = None
        try:
            with self.profile.of(READ):
                data = item.read()
                digest = hashlib.sha256(data if isinstance(data, bytes) else data.data).hexdigest()
            if self.known is not None and self.known(item.name, digest):
                return Ready(item.name, digest, known=True)
            with self.profile.of(DECODE):
                image = decode(data, name=item.name, at_least=self.at_least)
                size = (int(image.shape[0]), int(image.shape[1]))
                if self.at_least is not None and isinstance(data, bytes) and data.startswith(JPEG_SIGNATURE):
                    facts = probe(data, name=item.name)
                    size = (facts.height, facts.width)
            with self.profile.of(RESIZE):
                depth = depth_of(data)
                pixels, reason = self.recipe.prepared(image, depth=depth, any_product=self.any_product)
        except ImageError as error:
            return Ready(item.name, digest, error=error.what)
        return Ready(item.name, digest, size, pixels, reason=reason)

"""From one item to what a network takes: read, digested, decoded, at its size, or the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knowngood.data.images import decoding
from knowngood.data.pixels import unexpected
from knowngood.errors import ImageError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.engine.items import Item
from knowngood.recipe.engine.profile import Profile

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

    def __call__(self, item: Item) -> Ready:
        """Returns the item, prepared; whatever goes wrong with it is in its `error`."""
        digest = None
        try:
            with self.profile.of(READ):
                data = item.read()
                digest = hashlib.sha256(data if isinstance(data, bytes) else data.data).hexdigest()
            if self.known is not None and self.known(item.name, digest):
                return Ready(item.name, digest, known=True)
            with ExitStack() as held:  # its share of the memory for decoding, until it is small
                with self.profile.of(DECODE):
                    decoded = held.enter_context(decoding(data, name=item.name))
                    size = (int(decoded.pixels.shape[0]), int(decoded.pixels.shape[1]))
                with self.profile.of(RESIZE):
                    pixels, reason = self.recipe.prepared(decoded, any_product=self.any_product)
        except ImageError as error:
            return Ready(item.name, digest, error=error.what)
        except Exception as error:  # one photograph never costs the others
            return Ready(item.name, digest, error=unexpected(item.name, error).what)
        return Ready(item.name, digest, size, pixels, reason=reason)

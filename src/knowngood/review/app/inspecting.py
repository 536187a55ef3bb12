"""All that the station asks of a recipe, in one place, so that another engine can be put behind it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.images import decode, decoding
from knowngood.errors import ConfigError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap, level_of
from knowngood.report.heat import Scale, as_colour, as_grey, boxed, scale_of
from knowngood.review.app.embedding import Embedder, Rows
from knowngood.review.store.inspections import Box

_RECENT = 16  # maps that the colours of the next one are scaled by, so that pictures can be compared

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prepared:
    """A photograph that was read and brought to size.

    Attributes:
        fitted: (C, H, W) uint8, as the networks see it.
        brightness: Mean grey level, 0..255.
        contrast: Standard deviation of the grey levels.
        sharpness: Mean absolute step between neighbours, in grey levels.
        reason: Why a person must look at it whatever its score, or None.
    """

    fitted: Pixels
    brightness: float
    contrast: float
    sharpness: float
    reason: str | None = None


class Inspector:
    """A recipe at work: one thread scores at a time.

    Args:
        recipe: Loaded.
        any_product: Whether photographs are not compared with those that the recipe learned from.
    """

    def __init__(self, recipe: Recipe, *, any_product: bool = False) -> None:
        self.recipe, self.any_product = recipe, any_product
        self.embedder = Embedder(recipe)
        self.scored_at = 0.0  # seconds of time.monotonic()
        self._lock = threading.Lock()
        self._recent: deque[npt.NDArray[np.float32]] = deque(maxlen=_RECENT)

    @property
    def name(self) -> str:
        """What the recipe is called."""
        return self.recipe.manifest.name

    def prepare(self, data: bytes, name: str, max_pixels: int) -> Prepared:
        """Reads a photograph.

        Raises:
            ImageError: It cannot be read, or has more than `max_pixels`.
        """
        with decoding(data, name=name, max_pixels=max_pixels) as decoded:
            grey = as_grey(decoded.pixels).astype(np.int16)
            steps = [float(np.abs(np.diff(grey, axis=axis)).mean()) if grey.shape[axis] > 1 else 0.0 for axis in (0, 1)]
            fitted, reason = self.recipe.prepared(decoded, any_product=self.any_product)
            return Prepared(fitted, float(grey.mean()), float(grey.std()), sum(steps) / 2, reason)

    def score(self, prepared: Sequence[Prepared]) -> list[float]:
        """Returns defect scores, in 0..1."""
        return self.score_and_embed(prepared)[0]

    def score_and_embed(self, prepared: Sequence[Prepared]) -> tuple[list[float], Rows]:
        """Returns defect scores, in 0..1, and deep features (N, D) from the same pass."""
        with self._lock:
            with self.embedder.taking() as taken:
                scores = self.recipe.score(np.stack([one.fitted for one in prepared]))
            self.scored_at = time.monotonic()
            return [float(score) for score in scores], np.concatenate(taken)

    def embed(self, prepared: Sequence[Prepared]) -> Rows:
        """Returns deep features (N, D) without scores: the first network's pass only."""
        with self._lock:
            return self.embedder.rows(np.stack([one.fitted for one in prepared]))

    def look(self, images: Sequence[bytes], names: Sequence[str]) -> list[HeatMap | None]:
        """Returns where the recipe looks in photographs; None where this recipe draws no maps.

        Raises:
            ImageError: One of them cannot be read.
        """
        try:
            with self._lock:
                return list(self.recipe.maps(images, names))
        except ConfigError:
            return [None] * len(images)

    def overlay(self, data: bytes, looked: HeatMap) -> Pixels:
        """Returns the photograph under the colours of its map with the boxes, RGB (H, W, 3)."""
        self._recent.append(looked.values)
        scale: Scale = scale_of(list(self._recent), level_of(self.recipe.inspector))
        photograph = decode(data)
        return boxed(scale.over(as_colour(photograph), looked.values), looked.regions, 1.0)


def largest(looked: HeatMap | None) -> Box | None:
    """Returns the box of the largest region, if there is one."""
    return looked.regions[0].box if looked is not None and looked.regions else None


def png(pixels: Pixels) -> bytes:
    """Returns RGB or grey pixels as a PNG: whatever was sent, only pixels go out again."""
    ordered = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return bytes(cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])

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
    """

    fitted: Pixels
    brightness: float
    contrast: float
    sharpness: float


class Inspector:
    """A recipe at work: one thread scores at a time.

    Args:
        recipe: Loaded.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
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
            grey = as_grey(decoded.pixels)
            fitted = self.recipe.fitted(decoded.pixels)
            steps = [float(cv2.absdiff(a, b).mean()) if a.size else 0.0 for a, b in _neighbours(grey)]
            mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
            return Prepared(fitted, mean, deviation, sum(steps) / 2)

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


def _neighbours(grey: Pixels) -> list[tuple[Pixels, Pixels]]:
    """Returns each pixel and the one below it, and each and the one to its right, as views (H-1, W) and (H, W-1)."""
    return [(grey[1:], grey[:-1]), (grey[:, 1:], grey[:, :-1])]


def largest(looked: HeatMap | None) -> Box | None:
    """Returns the box of the largest region, if there is one."""
    return looked.regions[0].box if looked is not None and looked.regions else None


def png(pixels: Pixels) -> bytes:
    """Returns RGB or grey pixels as a PNG: whatever was sent, only pixels go out again."""
    ordered = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return bytes(cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])

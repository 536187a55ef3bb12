"""All that the station asks of a recipe, in one place, so that another engine can be put behind it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.images import decode, decoding
from knowngood.errors import ConfigError, DataError
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.maps import HeatMap, level_of
from knowngood.report.heat import Scale, as_colour, as_grey, boxed, scale_of
from knowngood.review.app.embedding import Embedder, Rows
from knowngood.review.store.inspections import Box

_DRAWN = 4_000_000  # pixels of a map at most: a larger photograph is reduced before it is explained
_AT_ONCE = 16_000_000  # pixels of photographs that are explained at once
_ROWS = 512  # of a photograph whose facts are counted at once
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


@dataclass(frozen=True)
class Explanation:
    """Where a recipe looks in a photograph.

    Attributes:
        heat: The map, at the photograph's size or, of a large one, reduced to `_DRAWN` pixels.
        size: Height and width of the photograph, pixels.
    """

    heat: HeatMap
    size: tuple[int, int]

    @property
    def box(self) -> Box | None:
        """The largest region, (x0, y0, x1, y1), pixels of the photograph, half-open; None where nothing stands out."""
        if not self.heat.regions:
            return None
        down, across = (whole / drawn for whole, drawn in zip(self.size, self.heat.values.shape, strict=True))
        x0, y0, x1, y1 = self.heat.regions[0].box
        return round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory, about."""
        return self.heat.values.nbytes + sum(region.mask.nbytes for region in self.heat.regions)


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
            fitted, reason = self.recipe.prepared(decoded, any_product=self.any_product)
            return Prepared(fitted, *_facts(decoded.pixels), reason)

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

    def explain(self, images: Sequence[bytes], names: Sequence[str], max_pixels: int) -> Iterator[Explanation | None]:
        """Yields where the recipe looks in photographs, in order; None where this recipe draws no maps.

        Few pixels are held at once, whatever the photographs' sizes are.

        Raises:
            ImageError: One of them cannot be read.
        """
        group: list[Pixels] = []
        sizes: list[tuple[int, int]] = []
        for place, (data, name) in enumerate(zip(images, names, strict=True), 1):
            whole = decode(data, name=name, max_pixels=max_pixels)
            sizes.append((int(whole.shape[0]), int(whole.shape[1])))
            group.append(_reduced(whole))
            if place == len(images) or sum(one.shape[0] * one.shape[1] for one in group) > _AT_ONCE:
                for heat, size in zip(self._maps(group, names[place - len(group) : place]), sizes, strict=True):
                    yield None if heat is None else Explanation(heat, size)
                group, sizes = [], []

    def _maps(self, group: Sequence[Pixels], names: Sequence[str]) -> list[HeatMap | None]:
        try:
            with self._lock:
                return list(self.recipe.maps(group, names))
        except ConfigError:
            return [None] * len(group)

    def overlay(self, data: bytes, explained: Explanation, max_pixels: int) -> Pixels:
        """Returns the photograph under the colours of its map with the boxes, RGB (H, W, 3), as large as the map."""
        heat = explained.heat
        self._recent.append(_small(heat.values))
        scale: Scale = scale_of(list(self._recent), level_of(self.recipe.inspector))
        photograph = _reduced(decode(data, max_pixels=max_pixels))
        return boxed(scale.over(as_colour(photograph), heat.values), heat.regions, 1.0)


def _facts(pixels: Pixels) -> tuple[float, float, float]:
    """Returns brightness, contrast and sharpness of a photograph, counted in strips so that little memory is taken."""
    height, width = pixels.shape[:2]
    total = squares = 0
    across = down = 0
    last: npt.NDArray[np.int16] | None = None
    for start in range(0, height, _ROWS):
        grey = as_grey(pixels[start : start + _ROWS]).astype(np.int16)
        total += int(grey.sum(dtype=np.int64))
        squares += int(np.square(grey, dtype=np.int64).sum())
        across += int(np.abs(np.diff(grey, axis=1)).sum(dtype=np.int64))
        joined = grey if last is None else np.concatenate([last, grey])
        down += int(np.abs(np.diff(joined, axis=0)).sum(dtype=np.int64))
        last = grey[-1:]
    count = height * width
    mean = total / count
    steps = (down / max((height - 1) * width, 1) + across / max(height * (width - 1), 1)) / 2
    return mean, float(np.sqrt(max(squares / count - mean * mean, 0.0))), steps


def _reduced(photograph: Pixels) -> Pixels:
    """Returns a photograph of at most `_DRAWN` pixels, its proportions kept as well as whole pixels can."""
    height, width = photograph.shape[:2]
    if height * width <= _DRAWN:
        return photograph
    share = (_DRAWN / (height * width)) ** 0.5
    tall, wide = max(1, int(height * share)), max(1, int(width * share))
    tall, wide = min(tall, _DRAWN // wide), min(wide, _DRAWN // tall)
    return np.asarray(cv2.resize(photograph, (wide, tall), interpolation=cv2.INTER_AREA), np.uint8)


def _small(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns some values of a map and its peak, (N,): all that a scale of colours needs."""
    step = max(1, -(-max(values.shape) // 256))
    return np.append(values[::step, ::step].ravel(), values.max()).astype(np.float32)


def png(pixels: Pixels) -> bytes:
    """Returns RGB or grey pixels as a PNG: whatever was sent, only pixels go out again.

    Raises:
        DataError: They cannot be written as one.
    """
    ordered = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    try:
        done, encoded = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"{pixels.shape[0]} x {pixels.shape[1]} pixels cannot be written as a PNG.")
    return bytes(encoded)

"""A loaded recipe that scores, embeds and explains photographs; deep features come from the scoring pass itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowngood.data.images import decode, decoding
from knowngood.errors import ConfigError, DataError, StorageError
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier
from knowngood.models.features import FeatureCache
from knowngood.models.heads import SvmHead
from knowngood.recipe.bundle import Prediction, Recipe
from knowngood.recipe.engine import Scored
from knowngood.recipe.maps import HeatMap, level_of
from knowngood.recipe.runtimes import PLACE
from knowngood.recipe.session import Session
from knowngood.report.pictures import Scale, as_colour, as_grey, boxed, scale_of
from knowngood.review.store.inspections import Box

WIDE = 512  # numbers of a row at most: 2 KB a photograph

Rows = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Embedder:
    """Deep features: the input of the head of a recipe's first network, taken from its forward pass.

    Args:
        recipe: Loaded.

    Reference:
        Rows longer than 512 are projected at random, which keeps distances within a few percent (Johnson and
        Lindenstrauss 1984).
    """

    def __init__(self, recipe: Recipe) -> None:
        member = recipe.inspector.members[0]
        assert isinstance(member, Classifier)
        self._member = member
        self._head: nn.Module = _head_of(member)
        self._narrowing: Tensor | None = None
        manifest = recipe.manifest
        networks = manifest.networks[0].model_dump(mode="json")
        self.cache_key: list[object] = ["head input", WIDE, manifest.weights_sha256, networks]
        self.cache_key += manifest.preprocessing.cache_key

    @contextmanager
    def taking(self) -> Iterator[list[tuple[int, Rows]]]:
        """Yields a list to which every photograph, or batch, that the network computes inside the block adds an entry.

        An entry is the number of the photograph in its batch, since several threads compute, and its rows.
        """
        taken: list[tuple[int, Rows]] = []

        views, calls = self._member.config.views, threading.local()

        def take(_: nn.Module, given: tuple[Any, ...]) -> None:
            call = calls.number = getattr(calls, "number", -1) + 1  # in one thread the views follow each other
            if call % views == 0:
                taken.append((getattr(PLACE, "photograph", 0), self._rows(given[0])))

        handle = self._head.register_forward_pre_hook(take)
        try:
            yield taken
        finally:
            handle.remove()

    def rows(self, pixels: Pixels) -> Rows:
        """Returns the rows (N, D) of fitted photographs (N, C, H, W) uint8 without scoring them."""
        with self.taking() as taken:
            over_batches(self._member, self._member, pixels, np.arange(len(pixels)), "features")
        return _in_order(taken)

    def _rows(self, seen: Tensor) -> Rows:
        rows = seen.float().mean((2, 3)) if seen.ndim == 4 else seen.float()
        if isinstance(self._head, SvmHead):
            rows = (rows - self._head.mean) / self._head.scale
        if rows.shape[1] > WIDE:
            if self._narrowing is None:
                drawn = np.random.default_rng(0).standard_normal((rows.shape[1], WIDE), np.float32)
                self._narrowing = torch.from_numpy(drawn / np.float32(np.sqrt(WIDE))).to(rows.device)
            rows = rows @ self._narrowing
        return np.asarray(rows.cpu().numpy(), np.float32)


def _head_of(member: Classifier) -> nn.Module:
    """Returns the layer whose input is the deep feature: an SVM, what a cell head sees of the last stage, or linear."""
    if member.head is not None:
        return member.head
    return member.head_layer() if member.cells is None else member.cells.norms[-1]


def _in_order(taken: list[tuple[int, Rows]]) -> Rows:
    return np.concatenate([rows for _, rows in sorted(taken, key=lambda one: one[0])])


MOST = 100_000  # rows in memory, 200 MB; the oldest leave first
_SHARD = 512  # rows that are written to the cache at once


class DeepFeatures:
    """Deep features by the SHA-256 of their photographs, in memory and in the feature cache; thread-safe.

    Args:
        cache_key: Everything that decides a row besides the photograph, see `FeatureCache`.
    """

    def __init__(self, cache_key: object) -> None:
        self._cache = FeatureCache(cache_key)
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, Rows] = OrderedDict()
        self._unkept: dict[str, Rows] = {}

    def add(self, digests: Sequence[str], rows: Rows) -> None:
        """Adds rows (N, D); they are written to the cache by `flush`, or when there are many."""
        with self._lock:
            for digest, row in zip(digests, rows, strict=True):
                if digest not in self._rows and np.isfinite(row).all():
                    self._unkept[digest] = row
                    self._remember(digest, row)
            full = len(self._unkept) >= _SHARD
        if full:
            self.flush()

    def lacking(self, digests: Sequence[str]) -> list[str]:
        """Returns those that have no row yet, neither in memory nor in the cache."""
        with self._lock:
            wanted = [digest for digest in dict.fromkeys(digests) if digest not in self._rows]
            for place, row in self._cache.take(wanted).items() if wanted else ():
                self._remember(wanted[place], row)
            return [digest for digest in wanted if digest not in self._rows]

    def of(self, digests: Sequence[str]) -> tuple[list[int], Rows]:
        """Returns the places of those that are in memory, and their rows (M, D) in that order."""
        with self._lock:
            found = [(place, self._rows[d]) for place, d in enumerate(digests) if d in self._rows]
        rows = np.stack([row for _, row in found]) if found else np.empty((0, 0), np.float32)
        return [place for place, _ in found], rows

    def flush(self) -> None:
        """Writes new rows to the cache; on a full disk they are dropped."""
        with self._lock:
            digests, rows = list(self._unkept), list(self._unkept.values())
            self._unkept.clear()
            if rows:
                with contextlib.suppress(StorageError, OSError):
                    self._cache.add(digests, np.stack(rows))

    def _remember(self, digest: str, row: Rows) -> None:
        self._rows[digest] = row
        while len(self._rows) > MOST:
            self._rows.popitem(last=False)


_DRAWN = 4_000_000  # pixels of a map at most: a larger photograph is reduced before it is explained
_AT_ONCE = 16_000_000  # pixels of photographs that are explained at once
_ROWS = 512  # of a photograph whose facts are counted at once
_RECENT = 16  # maps that the colours of the next one are scaled by, so that pictures can be compared


@dataclass(frozen=True)
class Prepared:
    """A decoded and preprocessed photograph.

    Attributes:
        fitted: (C, H, W) uint8, as the networks see it.
        brightness: Mean grey level, 0..255.
        contrast: Standard deviation of the grey levels.
        sharpness: Mean absolute step between neighbours, in grey levels.
        size: Height and width, pixels.
        reason: Why a review is needed whatever the score, or None.
    """

    fitted: Pixels
    brightness: float
    contrast: float
    sharpness: float
    size: tuple[int, int]
    reason: str | None = None


@dataclass(frozen=True)
class Explanation:
    """The map of one photograph.

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
    """A session and the deep features of its recipe; one thread scores at a time.

    Args:
        session: Open.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.recipe = session, session.recipe
        self.embedder = Embedder(session.recipe)
        self.scored_at = 0.0  # seconds of time.monotonic()
        self._lock = threading.Lock()
        self._recent: deque[npt.NDArray[np.float32]] = deque(maxlen=_RECENT)

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.recipe.manifest.name

    def prepare(self, data: bytes, name: str, max_pixels: int) -> Prepared:
        """Decodes and preprocesses a photograph.

        Raises:
            ImageError: It cannot be read, or has more than `max_pixels`.
        """
        with decoding(data, name=name, max_pixels=max_pixels) as decoded:
            fitted, reason = self.recipe.prepared(decoded, any_product=self.session.any_product)
            height, width = decoded.pixels.shape[:2]
            return Prepared(fitted, *_facts(decoded.pixels), (int(height), int(width)), reason)

    def score(self, prepared: Sequence[Prepared]) -> list[float]:
        """Returns defect scores, in 0..1."""
        return self.score_and_embed(prepared)[0]

    def score_and_embed(self, prepared: Sequence[Prepared]) -> tuple[list[float], Rows | None]:
        """Returns defect scores, in 0..1, and deep features (N, D) from the same pass.

        The features are None where an exported graph scores: they are then computed by `embed` in quiet moments.
        """
        with self._lock:
            with self.embedder.taking() as taken:
                scores = self.session.score(np.stack([one.fitted for one in prepared]))
            self.scored_at = time.monotonic()
            rows = _in_order(taken) if len(taken) == len(prepared) else None
            return scores.tolist(), rows

    def embed(self, prepared: Sequence[Prepared]) -> Rows:
        """Returns deep features (N, D) without scores: the first network's pass only."""
        with self._lock:
            return self.embedder.rows(np.stack([one.fitted for one in prepared]))

    def draw(self, prepared: Sequence[Prepared], predictions: Sequence[Prediction]) -> Iterator[Explanation | None]:
        """Yields the maps of photographs that were scored, in order; None where the recipe draws no maps.

        Maps of at most about 16 million pixels are in memory at once.

        Args:
            prepared: The photographs.
            predictions: One of each, with its score and decision.
        """
        group: list[Scored] = []
        for place, (one, prediction) in enumerate(zip(prepared, predictions, strict=True), 1):
            group.append(Scored(prediction, None, size=_drawn_size(*one.size), fitted=one.fitted))
            if place == len(prepared) or sum(each.size[0] * each.size[1] for each in group) > _AT_ONCE:
                for heat, whole in zip(self._maps(group), prepared[place - len(group) : place], strict=True):
                    yield None if heat is None else Explanation(heat, whole.size)
                group = []

    def _maps(self, group: Sequence[Scored]) -> list[HeatMap | None]:
        try:
            with self._lock:
                return [one.heat for one in self.session.draw(group)]
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
    tall, wide = _drawn_size(height, width)
    if (tall, wide) == (height, width):
        return photograph
    return np.asarray(cv2.resize(photograph, (wide, tall), interpolation=cv2.INTER_AREA), np.uint8)


def _drawn_size(height: int, width: int) -> tuple[int, int]:
    """Returns height and width of the map of a photograph: at most `_DRAWN` pixels, proportions kept."""
    if height * width <= _DRAWN:
        return height, width
    share = (_DRAWN / (height * width)) ** 0.5
    tall, wide = max(1, int(height * share)), max(1, int(width * share))
    return min(tall, _DRAWN // wide), min(wide, _DRAWN // tall)


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

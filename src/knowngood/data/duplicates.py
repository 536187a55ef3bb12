"""Which photographs are copies of each other: byte for byte, or saved again, brightened, or resized.

Parts on a line all look alike, so a perceptual hash would call half of a set duplicates. Compared here is
what is *individual* in a photograph: its thumbnail after gain, offset, the set's mean picture and the set's
main ways of varying (lighting, product, position) have been taken out. Weaker matches count when they are far
closer than the tenth-nearest image of either: a part photographed twice, or wafers cut from one crystal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import svds

from knowngood.data.images import decoding
from knowngood.data.pixels import blank_reason, unexpected
from knowngood.data.records import Records
from knowngood.errors import ImageError
from knowngood.progress import track
from knowngood.scale.mapping import mapped, pieces

SIDE = 32
DETAIL = 96  # pixels, longer side of a usual detailed thumbnail
# Measured: 95 % of re-encoded (JPEG 50 to 90), brightened (+10 %) and resized (0.5 to 1.5) copies are above
# this on elpv and magnetic-tile; so are 33 of 3.4 million elpv pairs, all neighbours cut from one crystal.
THRESHOLD = 0.98
WORKERS = 2
_WEAKEST, _STANDS_OUT, _CROWD = 0.9, 0.25, 10  # see `_many_pairs`
_BLOCK = 1024
_FEW = 50  # below this many images no ways of varying can be learned: pairs are compared against all others
_FLATTEST = 0.5  # grey levels; a flatter thumbnail has nothing to compare

_NARROWEST = 12  # pixels, shorter side of a detailed thumbnail: one column cannot be registered

Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Ids: TypeAlias = npt.NDArray[np.int64]
_Job: TypeAlias = tuple[str, str | None]  # path, and why it cannot be read


class _Shrunk(NamedTuple):
    small: Floats | None
    shape: tuple[int, ...] | None
    error: str | None
    blank: str | None = None
    depth: int | None = None
    detail: Bytes | None = None


@dataclass(frozen=True)
class Thumbnails:
    """Small grey pictures of a set.

    Attributes:
        pixels: float32 (N, 32, 32), 0..255, area averages; zero where the image cannot be decoded.
        errors: For each image why it cannot be decoded, or None.
        shapes: For each image its decoded shape, or None.
        detail: For each image a grey picture in its own proportions, uint8 (H, W), or None; empty unless asked for.
        blank: For each image why nothing can be seen in it, or None.
        depths: For each image how many bits its samples take (`knowngood.data.pixels.depth_of`), or None.
    """

    pixels: Floats
    errors: tuple[str | None, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    detail: tuple[Bytes | None, ...] = ()
    blank: tuple[str | None, ...] = ()
    depths: tuple[int | None, ...] = ()


def thumbnails(records: Records, *, detail: bool = False) -> Thumbnails:
    """Decodes every image once and shrinks it.

    Args:
        records: (N rows); rows with an error are passed over.
        detail: Also keep larger pictures, as `knowngood.data.registration` needs them (9 kB each).

    Returns:
        Thumbnails in the order of the rows.
    """
    jobs = list(zip(records.frame["path"], records.frame["error"], strict=True))
    pixels = np.zeros((len(jobs), SIDE, SIDE), np.float32)
    usual = _usual_side(records) if detail else None
    shrunk = chain.from_iterable(mapped(partial(_shrunk, usual), pieces(jobs)))
    seen = list(track(shrunk, "Comparing images", len(jobs)))
    for row, one in enumerate(seen):
        if one.small is not None:
            pixels[row] = one.small
    return Thumbnails(
        pixels,
        tuple(one.error for one in seen),
        tuple(one.shape for one in seen),
        tuple(one.detail for one in seen) if detail else (),
        tuple(one.blank for one in seen),
        tuple(one.depth for one in seen),
    )


def _usual_side(records: Records) -> float:
    """Returns the median of the longer sides in pixels; 0 where the sizes are not known."""
    sides = records.frame.select(pl.max_horizontal("width", "height")).to_series().median()
    return float(sides) if isinstance(sides, (int, float)) else 0.0


def exact_clusters(records: Records) -> Ids:
    """Numbers the images so that files with equal bytes have equal numbers.

    Args:
        records: (N rows); a file without a hash is alone.

    Returns:
        int64 (N,), cluster numbers from 0.
    """
    key = pl.coalesce(pl.col("sha256"), pl.lit("alone ") + pl.col("image"))
    return records.frame.select(key.rank("dense").cast(pl.Int64) - 1).to_series().to_numpy().astype(np.int64)


def near_clusters(records: Records, *, threshold: float = THRESHOLD, thumbs: Thumbnails | None = None) -> Ids:
    """Numbers the images so that copies and near copies have equal numbers.

    Args:
        records: (N rows).
        threshold: Correlation of what is individual in two images from which they count as copies, 0..1.
        thumbs: Thumbnails of the same rows, to save decoding again.

    Returns:
        int64 (N,), cluster numbers from 0; undecodable images are alone, exact copies together.
    """
    exact = exact_clusters(records)
    thumbs = thumbs or thumbnails(records)
    first = np.unique(exact, return_index=True)[1]  # one image of each exact cluster is enough
    labels = np.arange(len(first), dtype=np.int64)
    for left, right in _copies(thumbs.pixels[first], threshold):
        labels = _merged(labels, left, right)
    return labels[exact]


def _shrunk(usual: float | None, jobs: Sequence[_Job]) -> list[_Shrunk]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(partial(_shrink, usual), jobs))


def _shrink(usual: float | None, job: _Job) -> _Shrunk:
    path, error = job
    if error is not None:
        return _Shrunk(None, None, error)
    try:
        with decoding(path) as decoded:
            pixels = decoded.pixels
            plain = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
            grey: Floats = np.asarray(plain, np.float32)
            small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            detail = None if usual is None else _detailed(grey, usual)
            shape, blank, depth = pixels.shape, blank_reason(pixels), decoded.facts.bit_depth
    except ImageError as problem:
        return _Shrunk(None, None, problem.what)
    except Exception as problem:  # MemoryError too: one photograph never costs the others
        return _Shrunk(None, None, unexpected(path, problem).what)
    return _Shrunk(np.asarray(small, np.float32), shape, None, blank, depth, detail)


def _detailed(grey: Floats, usual: float) -> Bytes:
    """Returns a picture reduced as all of its set are, so that parts keep their size however they were cut out.

    A photograph that is far larger or smaller than is usual is brought to the usual size instead.
    """
    height, width = grey.shape
    longer = max(height, width)
    by = DETAIL / (usual if usual and 0.6 < longer / usual < 1 / 0.6 else longer)
    size = (max(_NARROWEST, round(width * by)), max(_NARROWEST, round(height * by)))
    return np.asarray(np.clip(np.rint(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)), 0, 255), np.uint8)


def _copies(pixels: Floats, threshold: float) -> Iterator[tuple[Ids, Ids]]:
    """Yields index arrays of matching pairs, a bounded piece at a time."""
    flat = pixels.reshape(len(pixels), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    spread = flat.std(axis=1)
    rows = np.flatnonzero(spread > _FLATTEST)
    if len(rows) < 2:
        return
    shapes = flat[rows] / (spread[rows, None] * SIDE)  # unit length: gain and offset are gone
    if len(rows) < _FEW:
        pairs = _few_pairs(shapes, threshold)
        if len(pairs):
            yield rows[pairs[:, 0]], rows[pairs[:, 1]]
        return
    for left, right in _many_pairs(leave_individual(shapes), threshold):
        yield rows[left], rows[right]


def _many_pairs(individual: Floats, threshold: float) -> Iterator[tuple[Ids, Ids]]:
    """Yields pairs above the threshold, and weaker ones that stand far out from all else like them."""
    outside = np.empty(len(individual), np.float32)  # correlation with a neighbour that is hardly a copy any more
    weaker: list[tuple[Ids, Ids, Floats]] = []
    starts = range(0, len(individual), _BLOCK)
    for start, found in zip(starts, mapped(partial(_of_block, individual, threshold), starts), strict=True):
        outside[start : start + _BLOCK] = found.outside
        yield found.sure
        weaker.append(found.weaker)
    for left, right, strength in weaker:
        apart = 1 - strength <= _STANDS_OUT * (1 - outside[right])
        yield left[apart], right[apart]


class _Block(NamedTuple):
    """Pairs of a block of rows with all rows: those above the threshold, and weaker ones with their correlation."""

    outside: Floats
    sure: tuple[Ids, Ids]
    weaker: tuple[Ids, Ids, Floats]


def _of_block(individual: Floats, threshold: float, start: int) -> _Block:
    block = individual[start : start + _BLOCK] @ individual.T
    near = np.partition(block, -_CROWD, axis=1)[:, -_CROWD]
    sure = block >= threshold
    left, right = np.nonzero(sure)
    apart = right > start + left
    floor = np.maximum(_WEAKEST, 1 - _STANDS_OUT * (1 - near))
    weak, like = np.nonzero((block >= floor[:, None]) & ~sure)
    return _Block(near, (start + left[apart], right[apart]), (start + weak, like, block[weak, like]))


def leave_individual(shapes: Floats) -> Floats:
    """Takes the mean and the main ways of varying (PCA) out of rows (N, D), and scales them to unit length."""
    individual = shapes - shapes.mean(axis=0)
    components = min(16, len(shapes) // _FEW)
    if components:
        start = np.ones(min(individual.shape), np.float32)  # fixed, so that equal sets give equal clusters
        _, _, basis = svds(individual, k=components, v0=start, tol=1e-4)
        individual -= (individual @ basis.T) @ basis
    lengths = np.linalg.norm(individual, axis=1, keepdims=True)
    return np.asarray(individual / np.maximum(lengths, 1e-6), np.float32)


def _few_pairs(shapes: Floats, threshold: float) -> Ids:
    """Compares each pair against the mean of all *other* images: copies must not hide each other."""
    count, total, pairs = len(shapes), shapes.sum(axis=0), []
    for i in range(count):
        for j in range(i + 1, count):
            others = (total - shapes[i] - shapes[j]) / max(count - 2, 1)
            plain = float(shapes[i] @ shapes[j])
            if plain >= threshold and _correlation(shapes[i] - others, shapes[j] - others) >= threshold:
                pairs.append((i, j))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def _merged(labels: Ids, left: Ids, right: Ids) -> Ids:
    if not len(left):
        return labels
    count = len(labels)
    graph = coo_matrix((np.ones(len(left), np.int8), (labels[left], labels[right])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)[labels]

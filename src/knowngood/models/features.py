"""Deep features of photographs: one row each, made once and kept by content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.pixels import fitted, needs_colour
from knowngood.data.records import Records
from knowngood.errors import ImageError, StorageError
from knowngood.files import whole_file
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, input_size, network_for
from knowngood.models.feature_cache import FeatureCache
from knowngood.models.weights.finding import find

SHARD = 1024  # rows computed between two writes to the cache: what a kill can cost
Rows = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Penultimate features of a set of photographs.

    Attributes:
        rows: (N, D) float32 in the order of the records; NaN where a photograph could not be decoded.
        backbone: Network that made them.
        origin: Its weights.
        size: Height and width in pixels that the network saw.
        computed: How many rows were computed now; the others came from the cache.
        failed: Row to message.
    """

    rows: Rows
    backbone: str
    origin: str
    size: tuple[int, int]
    computed: int
    failed: dict[int, str]


def features(
    records: Records,
    backbone: str = "resnet50",
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    into: Rows | None = None,
) -> Features:
    """Returns the penultimate features of every photograph: the averaged last maps, as the classifier sees them.

    Args:
        records: Usable rows.
        backbone: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        into: (N, D) float32 to fill, such as a memory-mapped file; allocated by default.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    known = find(backbone, weights)
    sizes = [(int(h), int(w)) for h, w in records.frame.select("height", "width").iter_rows()]
    height, width = input_size(sizes, image_size or BACKBONES.get(backbone).size)
    channels = 3 if needs_colour(records) else 1
    classifier = Classifier(network_for(backbone, known, height, width, channels))
    classifier.load_trunk(known)
    paths = records.frame["path"].to_list()
    failed: dict[int, str] = {}

    def compute(missing: Indices, title: str) -> Rows:
        pixels = np.zeros((len(missing), channels, height, width), np.uint8)
        for place, result in enumerate(fitted([paths[i] for i in missing], height, width, channels)):
            if isinstance(result, ImageError):
                failed[int(missing[place])] = str(result)
            else:
                pixels[place] = result
        made = over_batches(classifier, classifier.penultimate, pixels, np.arange(len(missing)), title)
        made[[i in failed for i in missing.tolist()]] = np.nan
        return made

    made_by = ["penultimate", classifier.config.model_dump(mode="json"), known.origin]
    digests = records.frame["sha256"].to_list()
    rows = np.empty((len(digests), classifier.trunk.num_features), np.float32) if into is None else into
    computed = cached_rows(digests, made_by, compute, rows)
    return Features(rows, backbone, known.origin, (height, width), computed, failed)


def write_features(records: Records, made: Features, target: Path) -> None:
    """Writes image, sha256 and features (a list of float32) as Parquet, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    columns = {"features": pl.Series(made.rows, dtype=pl.Array(pl.Float32, made.rows.shape[1]))}
    with whole_file(target) as scratch:
        records.frame.select("image", "sha256").with_columns(**columns).write_parquet(scratch)


def cached_rows(
    digests: Sequence[str | None], made_by: object, compute: Callable[[Indices, str], Rows], into: Rows
) -> int:
    """Fills a table of features from the cache, and computes and keeps what the cache lacks.

    Args:
        digests: (N) SHA-256 of each photograph; None for one whose row must not be kept.
        made_by: Everything else that decides a row (JSON types).
        compute: Takes indices (M,) and a title for the progress bar, returns their rows (M, D); NaN rows are not kept.
        into: (N, D) to fill.

    Returns:
        How many rows were computed.
    """
    cache = FeatureCache(made_by)
    missing = cache.missing(digests)
    lacking = set(missing.tolist())
    for start in range(0, len(missing), SHARD):
        wanted = missing[start : start + SHARD]
        rows = compute(wanted, f"features {start + 1} to {start + len(wanted)} of {len(missing)}")
        into[wanted] = rows
        sound = np.atleast_1d(~np.isnan(rows).any(axis=1))
        with contextlib.suppress(StorageError):  # a full cache is no reason not to go on
            cache.add([digests[i] if ok else None for i, ok in zip(wanted, sound, strict=True)], rows)
    for start in range(0, len(digests), SHARD):  # in pieces, so that memory does not grow with the set
        piece = [None if i in lacking else digests[i] for i in range(start, min(start + SHARD, len(digests)))]
        for offset, row in cache.take(piece).items():
            into[start + offset] = row
    return len(missing)

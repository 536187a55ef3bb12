"""Deep features of photographs: one row each, made once and kept by content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.pixels import AS_IT_IS, fitted, needs_colour
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import ImageError, StorageError
from knowngood.files import whole_file
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, NetworkConfig, input_size, kernel_config, network_for
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
        stages: (N, S) float32, average and maximum of the stages, as a kernel head sees them; None unless asked for.
    """

    rows: Rows
    backbone: str
    origin: str
    size: tuple[int, int]
    computed: int
    failed: dict[int, str]
    stages: Rows | None = None

    def of(self, rows: Indices) -> Features:
        """Returns the features of some rows (M,), in that order."""
        place = {int(row): new for new, row in enumerate(rows)}
        failed = {place[row]: said for row, said in self.failed.items() if row in place}
        stages = None if self.stages is None else self.stages[rows]
        return replace(self, rows=self.rows[rows], stages=stages, failed=failed)


def features(
    records: Records,
    backbone: str = "resnet50",
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    into: Rows | None = None,
    stages: bool = False,
    preprocessing: Preprocessing = AS_IT_IS,
) -> Features:
    """Returns the penultimate features of every photograph: the averaged last maps, as the classifier sees them.

    Args:
        records: Usable rows.
        backbone: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        into: (N, D) float32 to fill, such as a memory-mapped file; allocated by default.
        stages: Also return what a kernel head sees, from the same pass; training with the preset quick finds it in
            the cache afterwards, and the other way round.
        preprocessing: What is done to the photographs first.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    known = find(backbone, weights)
    sizes = [(int(h), int(w)) for h, w in records.frame.select("height", "width").iter_rows()]
    height, width = input_size(sizes, image_size or BACKBONES.get(backbone).size)
    channels = 3 if needs_colour(records) else 1
    base = network_for(backbone, known, height, width, channels)
    classifier = Classifier(kernel_config(base) if stages else base)
    classifier.load_trunk(known)
    length = classifier.trunk.num_features
    paths = records.frame["path"].to_list()
    failed: dict[int, str] = {}
    function = classifier.penultimate_and_stages if stages else classifier.penultimate

    def compute(missing: Indices, title: str) -> list[Rows]:
        pixels = np.zeros((len(missing), channels, height, width), np.uint8)
        for place, result in enumerate(fitted([paths[i] for i in missing], height, width, channels, preprocessing)):
            if isinstance(result, ImageError):
                failed[int(missing[place])] = str(result)
            else:
                pixels[place] = result
        made = over_batches(classifier, function, pixels, np.arange(len(missing)), title)
        made[[i in failed for i in missing.tolist()]] = np.nan
        return [made[:, :length], made[:, length:]] if stages else [made]

    made_by: list[object] = [["penultimate", base.model_dump(mode="json"), known.origin, *preprocessing.made_by]]
    digests = records.frame["sha256"].to_list()
    tables = [np.empty((len(digests), length), np.float32) if into is None else into]
    if stages:
        made_by.append(stages_made_by(classifier.config, known.origin, preprocessing))
        tables.append(np.empty((len(digests), classifier.feature_length), np.float32))
    computed = cached_tables(digests, made_by, compute, tables)
    seen = tables[1] if stages else None
    return Features(tables[0], backbone, known.origin, (height, width), computed, failed, seen)


def stages_made_by(config: NetworkConfig, origin: str, preprocessing: Preprocessing = AS_IT_IS) -> object:
    """Returns what decides a row of stage features besides the photograph: the key of their cache.

    Args:
        config: With a kernel head; photographs are decoded at its size.
        origin: Of the weights.
        preprocessing: What is done to the photographs first.
    """
    shape = [config.channels, config.height, config.width]
    return [config.model_dump(mode="json"), origin, shape, *preprocessing.made_by]


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
    """Fills a table of features as `cached_tables` does, for one way of making them."""
    return cached_tables(digests, [made_by], lambda indices, title: [compute(indices, title)], [into])


def cached_tables(
    digests: Sequence[str | None],
    made_by: Sequence[object],
    compute: Callable[[Indices, str], Sequence[Rows]],
    into: Sequence[Rows],
) -> int:
    """Fills tables of features from the cache, and computes and keeps what the cache lacks.

    Args:
        digests: (N) SHA-256 of each photograph; None for one whose row must not be kept.
        made_by: For each table everything else that decides a row (JSON types).
        compute: Takes indices (M,) and a title for the progress bar, returns their rows (M, D) for each table; NaN
            rows are not kept.
        into: For each table (N, D) to fill.

    Returns:
        How many photographs were computed.
    """
    caches = [FeatureCache(one) for one in made_by]
    lacking = {int(i) for cache in caches for i in cache.missing(digests)}
    missing = np.array(sorted(lacking), np.int64)
    for start in range(0, len(missing), SHARD):
        wanted = missing[start : start + SHARD]
        made = compute(wanted, f"features {start + 1} to {start + len(wanted)} of {len(missing)}")
        for cache, table, rows in zip(caches, into, made, strict=True):
            table[wanted] = rows
            sound = np.atleast_1d(~np.isnan(rows).any(axis=1))
            with contextlib.suppress(StorageError):  # a full cache is no reason not to go on
                cache.add([digests[i] if ok else None for i, ok in zip(wanted, sound, strict=True)], rows)
    for start in range(0, len(digests), SHARD):  # in pieces, so that memory does not grow with the set
        piece = [None if i in lacking else digests[i] for i in range(start, min(start + SHARD, len(digests)))]
        for cache, table in zip(caches, into, strict=True):
            for offset, row in cache.take(piece).items():
                table[start + offset] = row
    return len(missing)

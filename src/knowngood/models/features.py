"""Deep features of photographs: one row each, made once and kept by content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.data.pixels import AS_IT_IS
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import StorageError
from knowngood.files import whole_file
from knowngood.models.feature_cache import FeatureCache
from knowngood.models.feature_making import FeatureMaker, maker_for

SHARD = 1024  # rows computed between two writes to the cache: what a kill can cost
Rows = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Computes: TypeAlias = Callable[[Indices], Iterator[tuple[Indices, Sequence[Rows]]]]


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


class Elsewhere(Protocol):
    """Makes features on other machines."""

    def rows(self, maker: FeatureMaker, records: Records) -> Iterator[tuple[list[Rows], dict[int, str]]]:
        """Yields what `FeatureMaker.rows` returns, for one stretch of the records (N rows) after the other."""
        ...


def features(
    records: Records,
    backbone: str = "resnet50",
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    into: Rows | None = None,
    stages: bool = False,
    preprocessing: Preprocessing = AS_IT_IS,
    elsewhere: Elsewhere | None = None,
) -> Features:
    """Returns the penultimate features of every photograph: the averaged last maps, as the classifier sees them.

    Photographs with equal bytes are computed once.

    Args:
        records: Usable rows.
        backbone: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        into: (N, D) float32 to fill, such as a memory-mapped file; allocated by default.
        stages: Also return what a kernel head sees, from the same pass; training with the preset quick finds it in
            the cache afterwards, and the other way round.
        preprocessing: What is done to the photographs first.
        elsewhere: Makes what the cache lacks; this process by default.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    maker = maker_for(
        records, backbone, weights=weights, image_size=image_size, stages=stages, preprocessing=preprocessing
    )
    paths = records.frame["path"].to_list()
    digests = records.frame["sha256"].to_list()
    failed: dict[str, str] = {}  # by content, since copies are computed once

    def here(missing: Indices, title: str) -> list[Rows]:
        made, errors = maker.rows([paths[i] for i in missing], title)
        failed.update({digests[missing[place]] or paths[missing[place]]: said for place, said in errors.items()})
        return made

    def there(missing: Indices) -> Iterator[tuple[Indices, list[Rows]]]:
        assert elsewhere is not None
        start = 0
        for made, errors in elsewhere.rows(maker, records.with_frame(records.frame[missing])) if len(missing) else ():
            some = missing[start : start + len(made[0])]
            failed.update({digests[some[place]] or paths[some[place]]: said for place, said in errors.items()})
            start += len(some)
            yield some, made

    tables = [np.empty((len(paths), length), np.float32) for length in maker.lengths]
    if into is not None:
        tables[0] = into
    compute = in_shards(here) if elsewhere is None else there
    computed = cached_tables(digests, maker.made_by, compute, tables)
    names = enumerate(digest or path for digest, path in zip(digests, paths, strict=True))
    size, seen = (maker.config.height, maker.config.width), tables[1] if stages else None
    messages = {row: failed[name] for row, name in names if name in failed}
    return Features(tables[0], backbone, maker.origin, size, computed, messages, seen)


def write_features(records: Records, made: Features, target: Path) -> None:
    """Writes image, sha256, features (float32) and error as Parquet, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    columns = {
        "features": pl.Series(made.rows, dtype=pl.Array(pl.Float32, made.rows.shape[1])),
        "error": pl.Series([made.failed.get(row) for row in range(len(records))], dtype=pl.String),
    }
    with whole_file(target) as scratch:
        records.frame.select("image", "sha256").with_columns(**columns).write_parquet(scratch)


def cached_rows(
    digests: Sequence[str | None], made_by: object, compute: Callable[[Indices, str], Rows], into: Rows
) -> int:
    """Fills a table of features as `cached_tables` does, for one way of making them, `SHARD` rows at a time."""
    return cached_tables(digests, [made_by], in_shards(lambda indices, title: [compute(indices, title)]), [into])


def in_shards(compute: Callable[[Indices, str], Sequence[Rows]]) -> Computes:
    """Returns what makes rows a shard at a time of a function of indices and a title for the progress bar."""

    def run(missing: Indices) -> Iterator[tuple[Indices, Sequence[Rows]]]:
        for start in range(0, len(missing), SHARD):
            wanted = missing[start : start + SHARD]
            yield wanted, compute(wanted, f"features {start + 1} to {start + len(wanted)} of {len(missing)}")

    return run


def cached_tables(
    digests: Sequence[str | None], made_by: Sequence[object], compute: Computes, into: Sequence[Rows]
) -> int:
    """Fills tables of features from the cache, and computes and keeps what the cache lacks, equal bytes once.

    Args:
        digests: (N) SHA-256 of each photograph; None for one whose row must not be kept.
        made_by: For each table everything else that decides a row (JSON types).
        compute: Takes indices (M,), yields some of them in order with their rows (m, D) for each table; NaN rows are
            not kept.
        into: For each table (N, D) to fill.

    Returns:
        How many photographs were computed.
    """
    caches = [FeatureCache(one) for one in made_by]
    lacking = sorted({int(i) for cache in caches for i in cache.missing(digests)})
    first: dict[str | int, int] = {}
    original = {i: first.setdefault(digests[i] or i, i) for i in lacking}
    for wanted, made in compute(np.array(sorted(first.values()), np.int64)):
        for cache, table, rows in zip(caches, into, made, strict=True):
            table[wanted] = rows
            sound = np.atleast_1d(~np.isnan(rows).any(axis=1))
            with contextlib.suppress(StorageError):  # a full cache is no reason not to go on
                cache.add([digests[i] if ok else None for i, ok in zip(wanted, sound, strict=True)], rows)
    for copy, of in original.items():
        for table in into if copy != of else ():
            table[copy] = table[of]
    for start in range(0, len(digests), SHARD):  # in pieces, so that memory does not grow with the set
        piece = [None if i in original else digests[i] for i in range(start, min(start + SHARD, len(digests)))]
        for cache, table in zip(caches, into, strict=True):
            for offset, row in cache.take(piece).items():
                table[start + offset] = row
    return len(first)

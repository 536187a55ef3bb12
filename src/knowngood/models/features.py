"""Features kept on disk by the content of the photograph and by everything that made them.

Shards are written whole under names of their own, so a killed run keeps what it had, two runs can fill one cache,
and a changed photograph costs one row.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from knowngood.data.pixels import AS_IT_IS, fitted, needs_colour
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import ImageError, StorageError
from knowngood.files import cache_folder, cache_key, whole_file
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, NetworkConfig, input_size, network_for, svm_config
from knowngood.models.weights.files import Weights
from knowngood.models.weights.search import find

FORMAT = 1  # part of every key: raised when the same inputs would give other features

Rows = npt.NDArray[np.float32]


class FeatureCache:
    """Feature rows of one way of making them.

    Args:
        key: Everything that decides a row besides the photograph: network, weights, sizes, stages (JSON types).
        folder: Where the shards are; the user's cache by default.
    """

    def __init__(self, key: object, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder("features")) / cache_key(FORMAT, key)
        self._places: dict[str, tuple[Path, int]] = {}
        self._read: set[Path] = set()

    def missing(self, digests: Sequence[str | None]) -> npt.NDArray[np.int64]:
        """Returns the indices of photographs whose features are not kept (None is never kept)."""
        self._look()
        return np.array([i for i, digest in enumerate(digests) if digest not in self._places], np.int64)

    def add(self, digests: Sequence[str | None], rows: Rows) -> None:
        """Keeps rows (N, D) under the SHA-256 of their photographs.

        Raises:
            StorageError: The cache's disk is full.
        """
        named = [i for i, digest in enumerate(digests) if digest is not None]
        if not named:
            return
        keys = np.frombuffer(b"".join(bytes.fromhex(str(digests[i])) for i in named), np.uint8).reshape(-1, 32)
        with whole_file(self.folder / f"{secrets.token_hex(8)}.safetensors") as scratch:
            save_file({"keys": keys, "rows": np.ascontiguousarray(rows[named], np.float32)}, scratch)

    def take(self, digests: Sequence[str | None]) -> dict[int, Rows]:
        """Returns index to row (D,) for the photographs that are kept."""
        self._look()
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for index, digest in enumerate(digests):
            if digest in self._places:
                path, row = self._places[digest]
                wanted.setdefault(path, []).append((index, row))
        found: dict[int, Rows] = {}
        for path, pairs in wanted.items():
            with safe_open(path, framework="np") as handle:
                rows = handle.get_tensor("rows")
            found |= {index: rows[row] for index, row in pairs}
        return found

    def _look(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else []:
            if path in self._read:
                continue
            self._read.add(path)
            try:
                with safe_open(path, framework="np") as handle:
                    keys = handle.get_tensor("keys")
            except (SafetensorError, OSError):
                path.unlink(missing_ok=True)  # damaged: its rows are computed again
                continue
            self._places |= {bytes(key).hex(): (path, row) for row, key in enumerate(keys)}


SHARD = 1024  # rows computed between two writes to the cache: what a kill can cost
Indices = npt.NDArray[np.int64]
Computes: TypeAlias = Callable[[Indices], Iterator[tuple[Indices, Sequence[Rows]]]]


@dataclass(frozen=True)
class Features:
    """Penultimate features of a set of photographs.

    Attributes:
        rows: (N, D) float32 in the order of the records; NaN where a photograph could not be decoded.
        model: Network that made them.
        origin: Its weights.
        size: Height and width in pixels that the network saw.
        computed: How many rows were computed now; the others came from the cache.
        failed: Row to message.
        stages: (N, S) float32, average and maximum of the stages, as an SVM head sees them; None unless asked for.
    """

    rows: Rows
    model: str
    origin: str
    size: tuple[int, int]
    computed: int
    failed: dict[int, str]
    stages: Rows | None = None

    def of(self, rows: Indices) -> Features:
        """Returns the features of some rows (M,), in that order."""
        place = {int(row): new for new, row in enumerate(rows)}
        failed = {place[row]: message for row, message in self.failed.items() if row in place}
        stages = None if self.stages is None else self.stages[rows]
        return replace(self, rows=self.rows[rows], stages=stages, failed=failed)


class Elsewhere(Protocol):
    """Makes features on other machines."""

    def rows(self, maker: FeatureMaker, records: Records) -> Iterator[tuple[list[Rows], dict[int, str]]]:
        """Yields what `FeatureMaker.rows` returns, for one stretch of the records (N rows) after the other."""
        ...


def features(
    records: Records,
    model: str = "resnet50",
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
        model: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        into: (N, D) float32 to fill, such as a memory-mapped file; allocated by default.
        stages: Also return what an SVM head sees, from the same pass; training with the preset quick finds it in
            the cache afterwards, and the other way round.
        preprocessing: What is done to the photographs first.
        elsewhere: Makes what the cache lacks; this process by default.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    maker = maker_for(
        records, model, weights=weights, image_size=image_size, stages=stages, preprocessing=preprocessing
    )
    paths = records.frame["path"].to_list()
    digests = records.frame["sha256"].to_list()
    failed: dict[str, str] = {}  # by content, since copies are computed once

    def here(missing: Indices, title: str) -> list[Rows]:
        made, errors = maker.rows([paths[i] for i in missing], title)
        failed.update({digests[missing[place]] or paths[missing[place]]: message for place, message in errors.items()})
        return made

    def there(missing: Indices) -> Iterator[tuple[Indices, list[Rows]]]:
        assert elsewhere is not None
        start = 0
        for made, errors in elsewhere.rows(maker, records.with_frame(records.frame[missing])) if len(missing) else ():
            some = missing[start : start + len(made[0])]
            failed.update({digests[some[place]] or paths[some[place]]: message for place, message in errors.items()})
            start += len(some)
            yield some, made

    tables = [np.empty((len(paths), length), np.float32) for length in maker.lengths]
    if into is not None:
        tables[0] = into
    compute = in_shards(here) if elsewhere is None else there
    computed = cached_tables(digests, maker.cache_keys, compute, tables)
    names = enumerate(digest or path for digest, path in zip(digests, paths, strict=True))
    size, seen = (maker.config.height, maker.config.width), tables[1] if stages else None
    messages = {row: failed[name] for row, name in names if name in failed}
    return Features(tables[0], model, maker.origin, size, computed, messages, seen)


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


def cached_rows(digests: Sequence[str | None], key: object, compute: Callable[[Indices, str], Rows], into: Rows) -> int:
    """Fills a table of features as `cached_tables` does, for one way of making them, `SHARD` rows at a time."""
    return cached_tables(digests, [key], in_shards(lambda indices, title: [compute(indices, title)]), [into])


def in_shards(compute: Callable[[Indices, str], Sequence[Rows]]) -> Computes:
    """Returns what makes rows a shard at a time of a function of indices and a title for the progress bar."""

    def run(missing: Indices) -> Iterator[tuple[Indices, Sequence[Rows]]]:
        for start in range(0, len(missing), SHARD):
            wanted = missing[start : start + SHARD]
            yield wanted, compute(wanted, f"features {start + 1} to {start + len(wanted)} of {len(missing)}")

    return run


def cached_tables(
    digests: Sequence[str | None], keys: Sequence[object], compute: Computes, into: Sequence[Rows]
) -> int:
    """Fills tables of features from the cache, and computes and keeps what the cache lacks, equal bytes once.

    Args:
        digests: (N) SHA-256 of each photograph; None for one whose row must not be kept.
        keys: For each table everything else that decides a row (JSON types).
        compute: Takes indices (M,), yields some of them in order with their rows (m, D) for each table; NaN rows are
            not kept.
        into: For each table (N, D) to fill.

    Returns:
        How many photographs were computed.
    """
    caches = [FeatureCache(one) for one in keys]
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


class FeatureMaker:
    """Makes the features of photographs.

    Args:
        config: Of the network; with an SVM head, stage features are made too, in the same pass.
        weights: Its pretrained weights.
        preprocessing: What is done to the photographs first.

    Attributes:
        lengths: Of a row of penultimate features and, with an SVM head, of one of stage features.
    """

    def __init__(self, config: NetworkConfig, weights: Weights, preprocessing: Preprocessing = AS_IT_IS) -> None:
        self.config, self.origin, self.preprocessing = config, weights.origin, preprocessing
        self.classifier = Classifier(config)
        self.classifier.load_trunk(weights)
        length = int(self.classifier.trunk.num_features)
        self.lengths = (length, self.classifier.feature_length) if self.stages else (length,)

    @property
    def stages(self) -> bool:
        """Whether stage features are made."""
        return self.config.head == "kernel"

    @property
    def cache_keys(self) -> list[object]:
        """For each kind of row what decides it besides the photograph: the keys of their caches."""
        linear = self.config.model_copy(update={"head": "linear", "stages": (), "supports": 0})
        linear_key = ["penultimate", linear.model_dump(mode="json"), self.origin, *self.preprocessing.cache_key]
        keys: list[object] = [linear_key]
        return [*keys, stages_cache_key(self.config, self.origin, self.preprocessing)] if self.stages else keys

    def rows(self, paths: Sequence[str], title: str) -> tuple[list[Rows], dict[int, str]]:
        """Returns features, and why some photographs have none.

        Args:
            paths: Of N photographs.
            title: Shown beside the progress bar.

        Returns:
            (N, D) float32 for each of `lengths`, NaN where a photograph cannot be decoded; place in `paths` to message.
        """
        shape, failed = (self.config.channels, self.config.height, self.config.width), {}
        pixels = np.zeros((len(paths), *shape), np.uint8)
        channels, height, width = shape
        for place, result in enumerate(fitted(paths, height, width, channels, self.preprocessing)):
            if isinstance(result, ImageError):
                failed[place] = str(result)
            else:
                pixels[place] = result
        function = self.classifier.penultimate_and_stages if self.stages else self.classifier.penultimate
        made = over_batches(self.classifier, function, pixels, np.arange(len(paths)), title)
        made[list(failed)] = np.nan
        return (np.split(made, self.lengths[:1], axis=1) if self.stages else [made]), failed


def maker_for(
    records: Records,
    model: str,
    *,
    weights: Path | None = None,
    image_size: int | None = None,
    stages: bool = False,
    preprocessing: Preprocessing = AS_IT_IS,
) -> FeatureMaker:
    """Returns what makes the features of a set: sizes and colour are those of all its photographs.

    Args:
        records: Usable rows.
        model: Registered network with pretrained weights.
        weights: File or folder with its weights, else the usual places.
        image_size: Side of the square with as many pixels as the network sees; its own by default.
        stages: Whether stage features are made too.
        preprocessing: What is done to the photographs first.

    Raises:
        WeightsError: The weights are not to be had.
        UnknownNameError: No such network.
    """
    known = find(model, weights)
    sizes = [(int(h), int(w)) for h, w in records.frame.select("height", "width").iter_rows()]
    height, width = input_size(sizes, image_size or BACKBONES.get(model).size)
    base = network_for(model, known, height, width, 3 if needs_colour(records) else 1)
    return FeatureMaker(svm_config(base) if stages else base, known, preprocessing)


def stages_cache_key(config: NetworkConfig, origin: str, preprocessing: Preprocessing = AS_IT_IS) -> object:
    """Returns what decides a row of stage features besides the photograph: the key of their cache.

    Args:
        config: With an SVM head; photographs are decoded at its size.
        origin: Of the weights.
        preprocessing: What is done to the photographs first.
    """
    shape = [config.channels, config.height, config.width]
    return [config.model_dump(mode="json"), origin, shape, *preprocessing.cache_key]


def tensors_digest(weights: Weights) -> str:
    """Returns the SHA-256 of pretrained tensors, names and values: equal wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

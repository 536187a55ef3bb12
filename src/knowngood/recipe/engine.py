"""Scores any number of photographs in bounded memory: threads prepare, a runtime computes, rows come in order."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from knowngood.cam.regions import FRACTION
from knowngood.data.images import decoding
from knowngood.data.pixels import unexpected
from knowngood.environment import cores
from knowngood.errors import ConfigError, ImageError, KnownGoodError
from knowngood.metrics.thresholds import ACCEPT, Thresholds, decide
from knowngood.models.batching import BATCH, batch_for
from knowngood.recipe.bundle import Prediction, Recipe
from knowngood.recipe.graphs import map_kind
from knowngood.recipe.inputs import Item
from knowngood.recipe.maps import HeatMap, Placing, level_of, marked, within
from knowngood.recipe.runtimes import Outputs, Runtime

A = TypeVar("A")
B = TypeVar("B")


def prefetch_map(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A], window: int) -> Iterator[B]:
    """Yields work(item) for each item, in order, while the pool works on those to come.

    Back-pressure: never more than `window` items are taken and not yet yielded, however slow the consumer is. Where
    the consumer goes away, what has not begun is cancelled.

    Args:
        pool: Does the work.
        work: Called in the pool's threads; what it raises is raised here, in its place.
        items: Taken one at a time, in the consumer's thread.
        window: Most items under way.
    """
    under_way: deque[Future[B]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= window:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def grouped(items: Iterable[A], size: int, counts: Callable[[A], bool]) -> Iterator[list[A]]:
    """Yields lists of items, in order, each with `size` of those that count (the last with fewer).

    Those that do not count travel with the others; a list grows to four times `size` at most, so that a long stretch
    of them does not fill the memory.
    """
    group: list[A] = []
    counted = 0
    for item in items:
        group.append(item)
        counted += counts(item)
        if counted == size or len(group) >= 4 * size:
            yield group
            group, counted = [], 0
    if group:
        yield group


class Profile:
    """Adds up the seconds that each stage worked, over all its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._threads: dict[str, int] = {}
        self.images = 0
        self.wall = 0.0

    def stage(self, name: str, threads: int = 1) -> None:
        """Says that there is a stage, and how many threads share it."""
        self._seconds.setdefault(name, 0.0)
        self._threads[name] = threads

    def add(self, name: str, seconds: float) -> None:
        """Adds to a stage."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Adds what passes inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def document(self) -> dict[str, object]:
        """Returns images, seconds, images/s, and of each stage its seconds, threads and busy share (0..1)."""
        wall = max(self.wall, 1e-9)
        return {
            "images": self.images,
            "seconds": round(self.wall, 3),
            "images_per_second": round(self.images / wall, 2),
            "stages": {
                name: {
                    "seconds": round(seconds, 3),
                    "threads": self._threads.get(name, 1),
                    "busy": round(min(1.0, seconds / wall / self._threads.get(name, 1)), 4),
                }
                for name, seconds in self._seconds.items()
            },
        }


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
        profile: Receives the time that it takes.
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


INFER, MAPS = "infer", "maps and regions"


@dataclass(frozen=True)
class Scored:
    """Result of one item.

    Attributes:
        prediction: Score and decision, or the error.
        digest: SHA-256 of its bytes; None when they could not be read.
        known: Whether it was skipped because it needed no scoring; the prediction is empty then.
        heat: The map, if maps were asked for.
        size: Height and width of the photograph, pixels; (0, 0) where it was not decoded.
        fitted: (C, H, W) uint8 as the networks see it; None where it was not asked for or could not be read.
    """

    prediction: Prediction
    digest: str | None
    known: bool = False
    heat: HeatMap | None = None
    size: tuple[int, int] = (0, 0)
    fitted: npt.NDArray[np.uint8] | None = None


class Engine:
    """Scores any number of items in bounded memory.

    Threads read, decode and bring to size a few batches ahead of what is computed; the runtime has the next batch
    waiting while it computes one; maps are placed in threads again. Everything is pulled from the end: where the
    consumer stops, the whole pipeline stops, and where it goes away, it is taken down.

    Args:
        recipe: Prepares photographs and calibrates raw scores.
        runtime: Computes raw scores, and maps.
        thresholds: Decide.
        any_product: Whether the input check is off.
        maps: Whether the maps of the runtime's own graph, and regions, are wanted.
        fitted: Whether results carry the photographs as the networks see them.
        batch: Photographs that are given to the runtime at once.
        workers: Threads that decode; as many as there are cores by default.
        fraction: Regions are what lies above this share of a map's maximum.
        profile: Receives how busy each stage was; a new one by default.

    Attributes:
        profile: How busy each stage was.

    Raises:
        ConfigError: Maps are wanted and this recipe has none in a forward pass.
    """

    def __init__(
        self,
        recipe: Recipe,
        runtime: Runtime,
        thresholds: Thresholds,
        *,
        any_product: bool = False,
        maps: bool = False,
        fitted: bool = False,
        batch: int = BATCH,
        workers: int | None = None,
        fraction: float = FRACTION,
        profile: Profile | None = None,
    ) -> None:
        self.recipe, self.runtime, self.thresholds, self.any_product = recipe, runtime, thresholds, any_product
        self.fitted, self.fraction = fitted, fraction
        _, height, width = recipe.input_shape
        self.batch = batch_for(height, width, batch)
        self.workers = workers or cores()
        self.profile = profile or Profile()
        self._placing: Placing | None = None
        if maps:
            kind = map_kind(recipe.inspector)
            if kind is None or not runtime.maps:
                raise ConfigError(
                    "This recipe has no map in a forward pass.",
                    expected="cell heads, one network whose last layer is linear on averaged maps, or a PatchCore head",
                    fix="Use `knowngood explain`, which takes gradients.",
                )
            self._placing = Placing(recipe.inspector, kind)
            self._level = level_of(recipe.inspector)

    def run(self, items: Iterable[Item], known: Known | None = None) -> Generator[Scored, None, None]:
        """Yields one result an item, in order; an item that cannot be read gives one with its error.

        Args:
            items: Taken a few batches ahead of what is yielded.
            known: Given name and digest, says whether an item needs no scoring.
        """
        mapped = self._placing is not None
        prepare = Preparing(self.recipe, self.profile, known, any_product=self.any_product)
        for stage in (READ, DECODE, RESIZE):
            self.profile.stage(stage, self.workers)
        self.profile.stage(INFER)
        began, busy = time.perf_counter(), self.runtime.busy
        pool = ThreadPoolExecutor(self.workers, "knowngood-decode", initializer=_one_thread_each)
        prepared = prefetch_map(pool, prepare, items, 2 * self.batch + self.workers)
        groups = _Groups(grouped(prepared, self.batch, lambda one: one.pixels is not None))
        stream = self.runtime.stream(groups.batches(self._stacked), maps=mapped)
        try:
            while True:
                try:
                    outputs = next(stream, None)
                except Exception as error:
                    if groups.ended or isinstance(error, KnownGoodError) or not groups.pending:
                        raise  # of the items themselves, or of no photograph
                    while groups.pending:  # some photograph's fault: each alone, then on with those that follow
                        yield from self._finished(pool, *self._alone(groups.pending.popleft(), mapped))
                    stream = self.runtime.stream(groups.batches(self._stacked), maps=mapped)
                    continue
                if outputs is None:
                    return
                yield from self._finished(pool, *self._sound(groups.pending.popleft(), outputs, mapped))
                self.profile.wall = time.perf_counter() - began
        finally:
            pool.shutdown(cancel_futures=True)
            self.profile.add(INFER, self.runtime.busy - busy)
            self.profile.wall = time.perf_counter() - began

    def _stacked(self, group: list[Ready]) -> npt.NDArray[np.uint8]:
        pixels = [one.pixels for one in group if one.pixels is not None]
        return np.stack(pixels) if pixels else np.empty((0, *self.recipe.input_shape), np.uint8)

    def _sound(self, group: list[Ready], outputs: Outputs, mapped: bool) -> tuple[list[Ready], Outputs]:
        """Returns a group and its outputs; photographs whose raw score is no number are asked about again, alone."""
        if np.isfinite(outputs.raw_scores).all():
            return group, outputs
        return self._alone(group, mapped)

    def _alone(self, group: list[Ready], mapped: bool) -> tuple[list[Ready], Outputs]:
        """Scores each photograph of a group alone; one that fails, or gets no number, has an error in its place."""
        kept: list[Ready] = []
        raw_scores: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
        maps: list[npt.NDArray[np.float32]] = []
        for one in group:
            if one.pixels is None:
                kept.append(one)
                continue
            try:
                outputs = self.runtime.run(one.pixels[None], maps=mapped)
                if not np.isfinite(outputs.raw_scores).all():
                    raise ArithmeticError("the network gives no number (NaN or infinity)")
            except KnownGoodError:
                raise
            except Exception as error:
                what = f"{one.name!r} cannot be scored: {str(error).strip() or type(error).__name__}."
                kept.append(replace(one, pixels=None, error=what))
                continue
            kept.append(one)
            raw_scores.append(outputs.raw_scores)
            if outputs.maps is not None:
                maps.append(outputs.maps)
        return kept, Outputs(np.concatenate(raw_scores), np.concatenate(maps) if maps else None)

    def _finished(self, pool: ThreadPoolExecutor, group: list[Ready], outputs: Outputs) -> Iterator[Scored]:
        scores = self.recipe.manifest.calibration.apply(outputs.raw_scores)
        reasons = [one.reason for one in group if one.pixels is not None]
        decisions = decide(scores, self.thresholds, reasons).tolist()
        maps = iter(outputs.maps) if outputs.maps is not None else repeat(None)
        rows = iter(zip(scores.tolist(), decisions, maps, strict=False))
        jobs = []
        for one in group:
            if one.pixels is None:
                jobs.append((one, Prediction.failed(one.name, one.error or "it was scored before"), None))
            else:
                score, decision, raw = next(rows)
                jobs.append((one, Prediction(one.name, score, decision, reason=one.reason), raw))
        self.profile.images += len(group)
        if self._placing is None:
            yield from (self._result(one, prediction) for one, prediction, _ in jobs)
            return
        self.profile.stage(MAPS, self.workers)
        yield from prefetch_map(pool, self._mapped, jobs, 4 * self.workers)  # full-size maps are large: few at a time

    def _mapped(self, job: tuple[Ready, Prediction, npt.NDArray[np.float32] | None]) -> Scored:
        one, prediction, raw = job
        if raw is None or self._placing is None or prediction.defect_score is None:
            return self._result(one, prediction)
        with self.profile.of(MAPS):
            full = within(self._placing(raw, one.size), self.recipe.manifest.preprocessing)
            regions = marked(full, self._level, self.fraction, rejected=prediction.decision != ACCEPT)
        heat = HeatMap(one.name, prediction.defect_score, prediction.decision, full, regions)
        return self._result(one, prediction, heat)

    def _result(self, one: Ready, prediction: Prediction, heat: HeatMap | None = None) -> Scored:
        return Scored(prediction, one.digest, one.known, heat, one.size, one.pixels if self.fitted else None)


class _Groups:
    """Groups of photographs on their way through a runtime, that outlive a stream that failed.

    Args:
        groups: Taken as the runtime asks for batches.

    Attributes:
        pending: Those that were given to the runtime and have no outputs yet.
        ended: Whether taking the next one failed: then it is not a photograph's fault.
    """

    def __init__(self, groups: Iterator[list[Ready]]) -> None:
        self.pending: deque[list[Ready]] = deque()
        self.ended = False
        self._groups = groups

    def batches(self, stacked: Callable[[list[Ready]], npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yields the pixels (B, C, H, W) of each group."""
        while True:
            self.ended = True
            group = next(self._groups, None)
            self.ended = False
            if group is None:
                return
            self.pending.append(group)
            yield stacked(group)


def _one_thread_each() -> None:
    """Lets a decoding thread do its small resizings itself: a team of threads for each would wait for one another."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="openmp")

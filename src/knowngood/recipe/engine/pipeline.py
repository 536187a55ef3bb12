"""The engine: a pipeline from items to predictions, whatever computes the margins."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import numpy.typing as npt

from knowngood.decide.threshold import ACCEPT, decide
from knowngood.errors import ConfigError, KnownGoodError
from knowngood.explain.regions import FRACTION
from knowngood.processors import cores
from knowngood.recipe.bundle import Prediction
from knowngood.recipe.engine.flow import ahead, grouped
from knowngood.recipe.engine.items import Item
from knowngood.recipe.engine.placing import Placing
from knowngood.recipe.engine.preparing import DECODE, READ, RESIZE, Known, Preparing, Ready
from knowngood.recipe.engine.profile import Profile
from knowngood.recipe.export.graphs import map_kind
from knowngood.recipe.maps import HeatMap, level_of, marked, within
from knowngood.recipe.runtimes import Outputs
from knowngood.recipe.runtimes.choosing import Scoring

BATCH = 32
INFER, MAPS = "infer", "maps and regions"


@dataclass(frozen=True)
class Scored:
    """What the engine says of one item.

    Attributes:
        prediction: Score and decision, or the error.
        digest: SHA-256 of its bytes; None when they could not be read.
        known: Whether it was passed over because it needed no scoring; the prediction is empty then.
        heat: Where it looked, if maps were asked for.
    """

    prediction: Prediction
    digest: str | None
    known: bool = False
    heat: HeatMap | None = None


class Engine:
    """Scores any number of items in bounded memory.

    Threads read, decode and bring to size a few batches ahead of what is computed; the runtime has the next batch
    waiting while it computes one; maps are placed in threads again. Everything is pulled from the end: where the
    consumer stops, the whole pipeline stops, and where it goes away, it is taken down.

    Args:
        scoring: Recipe, runtime and thresholds, from `knowngood.recipe.runtimes.choosing.scoring`.
        maps: Whether heatmaps and regions are wanted.
        batch: Photographs computed at once.
        workers: Threads that decode; as many as there are cores by default.
        fraction: Regions are what lies above this share of a map's maximum.
        profile: Is told how busy each stage was; a new one by default.

    Attributes:
        profile: How busy each stage was.

    Raises:
        ConfigError: Maps are wanted and this recipe has none in a forward pass.
    """

    def __init__(
        self,
        scoring: Scoring,
        *,
        maps: bool = False,
        batch: int = BATCH,
        workers: int | None = None,
        fraction: float = FRACTION,
        profile: Profile | None = None,
    ) -> None:
        self.scoring, self.batch, self.fraction = scoring, batch, fraction
        self.workers = workers or cores()
        self.profile = profile or Profile()
        self._placing: Placing | None = None
        if maps:
            kind = map_kind(scoring.recipe.inspector)
            if kind is None or not scoring.runtime.maps:
                raise ConfigError(
                    "This recipe has no map in a forward pass.",
                    expected="one fine-tuned network whose last layer is linear on averaged maps, or a patch memory",
                    fix="Use `knowngood explain`, which takes gradients.",
                )
            self._placing = Placing(scoring.recipe.inspector, kind)
            self._level = level_of(scoring.recipe.inspector)

    def run(self, items: Iterable[Item], known: Known | None = None) -> Generator[Scored, None, None]:
        """Yields one result an item, in order; an item that cannot be read gives one with its error.

        Args:
            items: Taken a few batches ahead of what is yielded.
            known: Given name and digest, says whether an item needs no scoring.
        """
        mapped = self._placing is not None
        prepare = Preparing(self.scoring.recipe, self.profile, known, any_product=self.scoring.any_product)
        for stage in (READ, DECODE, RESIZE):
            self.profile.stage(stage, self.workers)
        self.profile.stage(INFER)
        began, busy = time.perf_counter(), self.scoring.runtime.busy
        pool = ThreadPoolExecutor(self.workers, "knowngood-decode", initializer=_one_thread_each)
        prepared = ahead(pool, prepare, items, 2 * self.batch + self.workers)
        groups = _Groups(grouped(prepared, self.batch, lambda one: one.pixels is not None))
        stream = self.scoring.runtime.stream(groups.batches(self._stacked), maps=mapped)
        try:
            while True:
                try:
                    outputs = next(stream, None)
                except Exception as error:
                    if groups.ended or isinstance(error, KnownGoodError) or not groups.pending:
                        raise  # of the items themselves, or of no photograph
                    while groups.pending:  # some photograph's fault: each alone, then on with those that follow
                        yield from self._finished(pool, *self._alone(groups.pending.popleft(), mapped))
                    stream = self.scoring.runtime.stream(groups.batches(self._stacked), maps=mapped)
                    continue
                if outputs is None:
                    return
                yield from self._finished(pool, *self._sound(groups.pending.popleft(), outputs, mapped))
                self.profile.wall = time.perf_counter() - began
        finally:
            pool.shutdown(cancel_futures=True)
            self.profile.add(INFER, self.scoring.runtime.busy - busy)
            self.profile.wall = time.perf_counter() - began

    def _stacked(self, group: list[Ready]) -> npt.NDArray[np.uint8]:
        pixels = [one.pixels for one in group if one.pixels is not None]
        return np.stack(pixels) if pixels else np.empty((0, *self.scoring.recipe.input_shape), np.uint8)

    def _sound(self, group: list[Ready], outputs: Outputs, mapped: bool) -> tuple[list[Ready], Outputs]:
        """Returns a group and its outputs; photographs whose margin is no number are asked about again, alone."""
        if np.isfinite(outputs.margins).all():
            return group, outputs
        return self._alone(group, mapped)

    def _alone(self, group: list[Ready], mapped: bool) -> tuple[list[Ready], Outputs]:
        """Scores each photograph of a group alone; one that fails, or gets no number, has an error in its place."""
        kept: list[Ready] = []
        margins: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
        maps: list[npt.NDArray[np.float32]] = []
        for one in group:
            if one.pixels is None:
                kept.append(one)
                continue
            try:
                outputs = self.scoring.runtime.run(one.pixels[None], maps=mapped)
                if not np.isfinite(outputs.margins).all():
                    raise ArithmeticError("the network gives no number (NaN or infinity)")
            except KnownGoodError:
                raise
            except Exception as error:
                what = f"{one.name!r} cannot be scored: {str(error).strip() or type(error).__name__}."
                kept.append(replace(one, pixels=None, error=what))
                continue
            kept.append(one)
            margins.append(outputs.margins)
            if outputs.maps is not None:
                maps.append(outputs.maps)
        return kept, Outputs(np.concatenate(margins), np.concatenate(maps) if maps else None)

    def _finished(self, pool: ThreadPoolExecutor, group: list[Ready], outputs: Outputs) -> Iterator[Scored]:
        scores = self.scoring.recipe.manifest.calibration.apply(outputs.margins)
        reasons = [one.reason for one in group if one.pixels is not None]
        decisions = decide(scores, self.scoring.thresholds, reasons).tolist()
        maps = iter(outputs.maps) if outputs.maps is not None else repeat(None)
        told = iter(zip(scores.tolist(), decisions, maps, strict=False))
        jobs = []
        for one in group:
            if one.pixels is None:
                jobs.append((one, Prediction.failed(one.name, one.error or "it was scored before"), None))
            else:
                score, decision, raw = next(told)
                jobs.append((one, Prediction(one.name, score, decision, reason=one.reason), raw))
        self.profile.images += len(group)
        if self._placing is None:
            yield from (Scored(said, one.digest, one.known) for one, said, _ in jobs)
            return
        self.profile.stage(MAPS, self.workers)
        yield from ahead(pool, self._mapped, jobs, 4 * self.workers)  # full-size maps are large: few at a time

    def _mapped(self, job: tuple[Ready, Prediction, npt.NDArray[np.float32] | None]) -> Scored:
        one, said, raw = job
        if raw is None or self._placing is None or said.defect_score is None:
            return Scored(said, one.digest, one.known)
        with self.profile.of(MAPS):
            full = within(self._placing(raw, one.size), self.scoring.recipe.manifest.preprocessing)
            regions = marked(full, self._level, self.fraction, rejected=said.decision != ACCEPT)
        heat = HeatMap(one.name, said.defect_score, said.decision, full, regions)
        return Scored(said, one.digest, one.known, heat)


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

"""The cascade: a small network decides what it is sure of, a large one the rest; one score of the whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from knowngood.errors import RecipeError
from knowngood.metrics.calibration import Calibration
from knowngood.models.batching import batch_for
from knowngood.recipe.manifest import CertifiedCuts, SealedDocument
from knowngood.recipe.runtimes import Outputs, Pixels, Runtime, Values

Floats = npt.NDArray[np.float64]
RawScores = npt.NDArray[np.float32]
Zones = npt.NDArray[np.int8]
ACCEPTED, PASSED, REJECTED = 0, 1, 2
_LEAST = 1e-300


@dataclass(frozen=True)
class Rule:
    """The student accepts below `low`, rejects from `high`, and passes on what lies between.

    Attributes:
        low: Student's score below which it accepts.
        high: Student's score from which it rejects; above 1 where it rejects nothing.
        threshold: Of the whole: scores below it are accepted. Never below `low`.
        student: From the student's raw scores to its scores.
        large: From the large network's raw scores to its scores.
    """

    low: float
    high: float
    threshold: float
    student: Calibration
    large: Calibration

    def zones(self, raw_scores: RawScores) -> Zones:
        """Returns `ACCEPTED`, `PASSED` or `REJECTED` for each of the student's raw scores (N,)."""
        scores = self.student.apply(raw_scores)
        return np.where(scores < self.low, ACCEPTED, np.where(scores >= self.high, REJECTED, PASSED)).astype(np.int8)

    def whole(self, raw_scores: RawScores, zones: Zones, passed: RawScores) -> RawScores:
        """Returns raw scores (N,) float32 of the whole, on the large network's scale.

        What is passed on has the large network's own. For the rest the student's calibrated score is expressed on
        that scale, and kept on the side of the threshold where the student has decided.

        Args:
            raw_scores: (N,) of the student.
            zones: (N,) of `zones`.
            passed: The large network's raw scores of the rows that were passed on, in their order.
        """
        logits = np.asarray(raw_scores, np.float64) / self.student.temperature + self.student.bias
        made = ((logits - self.large.bias) * self.large.temperature).astype(np.float32)
        below, above = self._edges
        made = np.where(zones == ACCEPTED, np.minimum(made, below), np.maximum(made, above))
        made[zones == PASSED] = passed
        return made.astype(np.float32)

    @cached_property
    def _edges(self) -> tuple[np.float32, np.float32]:
        return edges(self.large, self.threshold)


def edges(calibration: Calibration, threshold: float) -> tuple[np.float32, np.float32]:
    """Returns the two neighbouring float32 raw scores whose scores lie below, and not below, a threshold in [0, 1)."""
    threshold = max(threshold, _LEAST)
    at = np.float32((np.log(threshold / (1 - threshold)) - calibration.bias) * calibration.temperature)

    def under(raw_score: np.float32) -> bool:
        return bool(calibration.apply([raw_score])[0] < threshold)

    while not under(at):
        at = np.nextafter(at, np.float32(-np.inf))
    while under(np.nextafter(at, np.float32(np.inf))):
        at = np.nextafter(at, np.float32(np.inf))
    return at, np.nextafter(at, np.float32(np.inf))


FOLDER, DOCUMENT, STUDENT = "cascade", "cascade.json", "student"
FORMAT = 1


class Part(BaseModel):
    """One of the two networks, as it was when the cascade was certified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str = Field(max_length=255, description="Names recipe and graph.")
    runtime: str = Field(max_length=64, description="What computed it.")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="What its convolutions are computed in.")


class CascadeDocument(SealedDocument):
    """Everything of a cascade but its networks."""

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    created: str = Field(max_length=255, description="When, ISO 8601 with zone.")
    large: Part = Field(description="The recipe's own network.")
    student: Part = Field(description="The small one.")
    certainty: float = Field(gt=0, le=1, description="The student accepts below this share of the threshold.")
    low: float = Field(ge=0, le=1, description="Student's score below which it accepts.")
    high: float = Field(ge=0, le=2, description="Student's score from which it rejects; above 1 for never.")
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`, certified on decisions of the whole.")
    figures: dict[str, Any] = Field(description="What was measured on each split.")

    @property
    def revision(self) -> str:
        """Names both networks and the rule in every row that is scored."""
        return f"{self.large.revision}+cascade-{self.stamp}"

    def save(self, folder: Path) -> None:
        """Writes cascade.json."""
        self.save_as(folder / DOCUMENT)

    @classmethod
    def load(cls, folder: Path) -> CascadeDocument:
        """Reads a cascade and checks that it is as it was saved.

        Raises:
            RecipeError: It is missing or damaged.
        """
        try:
            return cls.read(folder / DOCUMENT)
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"The cascade {folder} is damaged: {error}.",
                expected="what `knowngood cascade` saved",
                fix="Make it again with `knowngood cascade RUN`, or score with --no-cascade.",
            ) from error


WAITING = 24  # batches that may wait for it to be filled: the bound on memory


class CascadeRuntime:
    """Asks the student first, and the large network about what the student passes on.

    Photographs are prepared at the large network's size, once; the student sees them smaller. What is passed on is
    collected over several batches, so that the large network computes full ones; results keep their order.

    Accepted photographs have an empty map; the others have that of the large network.

    Args:
        student: Open.
        large: Open.
        rule: Who decides what.
        size: Height and width that the student sees.
        watch: Is shown the zones of each batch, in order.
    """

    name = "cascade"

    def __init__(
        self,
        student: Runtime,
        large: Runtime,
        rule: Rule,
        size: tuple[int, int],
        watch: Callable[[Zones], None] | None = None,
    ) -> None:
        self.student, self.large, self.rule, self.size, self.watch = student, large, rule, size, watch
        self.maps = large.maps
        self._sides: tuple[int, ...] | None = None  # of a map; known from the first one

    @property
    def busy(self) -> float:
        """Seconds in which either network was computing so far."""
        return self.student.busy + self.large.busy

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns raw scores of the whole, and maps if asked for."""
        (made,) = self.stream([pixels], maps=maps)
        return made

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields the outputs of each batch, in order; at most `WAITING` and those of the student are in memory."""
        taken: deque[Pixels] = deque()

        def small() -> Iterator[Pixels]:
            for pixels in batches:
                taken.append(pixels)
                yield smaller(pixels, self.size)

        waiting: deque[_Waiting] = deque()
        for made in self.student.stream(small()):
            zones = self.rule.zones(made.raw_scores)
            wanted = zones != ACCEPTED if maps else zones == PASSED
            if self.watch is not None:
                self.watch(zones)
            pixels = taken.popleft()
            full = batch_for(*pixels.shape[2:])
            waiting.append(_Waiting(made.raw_scores, zones, wanted, pixels[wanted]))
            if sum(len(one.pixels) for one in waiting) >= full or len(waiting) >= WAITING:
                yield from self._finished(waiting, maps)
        yield from self._finished(waiting, maps)

    def _finished(self, waiting: deque[_Waiting], maps: bool) -> Iterator[Outputs]:
        """Computes what waits with the large network, and yields the batches."""
        if not waiting:
            return
        going = [one.pixels for one in waiting if len(one.pixels)]
        asked = self.large.run(np.concatenate(going), maps=maps) if going else None
        start = 0
        while waiting:
            one = waiting.popleft()
            stop = start + len(one.pixels)
            raw_scores, heat = np.empty(0, np.float32), None
            if asked is not None:
                raw_scores, heat = asked.raw_scores[start:stop], None if asked.maps is None else asked.maps[start:stop]
            start = stop
            passed = raw_scores[one.zones[one.wanted] == PASSED]
            whole = self.rule.whole(one.raw_scores, one.zones, passed)
            yield Outputs(whole, self._placed(one, heat) if maps else None)

    def _placed(self, one: _Waiting, heat: Values | None) -> Values:
        """Returns maps (B, h, w): the large network's, and nothing where it was not asked."""
        if self._sides is None:
            shape = (1, *one.pixels.shape[1:])
            some = heat if heat is not None else self.large.run(np.zeros(shape, np.uint8), maps=True).maps
            assert some is not None
            self._sides = some.shape[1:]
        whole = np.zeros((len(one.wanted), *self._sides), np.float32)
        if heat is not None:
            whole[one.wanted] = heat
        return whole


@dataclass(frozen=True)
class _Waiting:
    raw_scores: RawScores
    zones: Zones
    wanted: npt.NDArray[np.bool_]
    pixels: Pixels = field(repr=False)


def smaller(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns photographs (B, C, H, W) at another height and width, averaged over areas; (B, C, h, w) uint8."""
    height, width = size
    if pixels.shape[2:] == size:
        return pixels
    made = np.empty((*pixels.shape[:2], height, width), np.uint8)
    for one, into in zip(pixels, made, strict=True):
        for plane, to in zip(one, into, strict=True):
            cv2.resize(plane, (width, height), dst=to, interpolation=cv2.INTER_AREA)
    return made

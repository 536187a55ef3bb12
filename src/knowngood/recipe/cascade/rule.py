"""Who decides what: three zones of the student's score, and one score of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from knowngood.decide.calibration import Calibration

Floats = npt.NDArray[np.float64]
Margins = npt.NDArray[np.float32]
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
        student: From the student's margins to its scores.
        large: From the large network's margins to its scores.
    """

    low: float
    high: float
    threshold: float
    student: Calibration
    large: Calibration

    def zones(self, margins: Margins) -> Zones:
        """Returns `ACCEPTED`, `PASSED` or `REJECTED` for each of the student's margins (N,)."""
        scores = self.student.apply(margins)
        return np.where(scores < self.low, ACCEPTED, np.where(scores >= self.high, REJECTED, PASSED)).astype(np.int8)

    def whole(self, margins: Margins, zones: Zones, passed: Margins) -> Margins:
        """Returns margins (N,) float32 of the whole, on the large network's scale.

        What is passed on has the large network's own. For the rest the student's calibrated score is expressed on
        that scale, and kept on the side of the threshold where the student has decided.

        Args:
            margins: (N,) of the student.
            zones: (N,) of `zones`.
            passed: The large network's margins of the rows that were passed on, in their order.
        """
        logits = np.asarray(margins, np.float64) / self.student.temperature + self.student.bias
        made = ((logits - self.large.bias) * self.large.temperature).astype(np.float32)
        below, above = self._edges
        made = np.where(zones == ACCEPTED, np.minimum(made, below), np.maximum(made, above))
        made[zones == PASSED] = passed
        return made.astype(np.float32)

    @cached_property
    def _edges(self) -> tuple[np.float32, np.float32]:
        return edges(self.large, self.threshold)


def edges(calibration: Calibration, threshold: float) -> tuple[np.float32, np.float32]:
    """Returns the two neighbouring float32 margins whose scores lie below, and not below, a threshold in [0, 1)."""
    threshold = max(threshold, _LEAST)
    at = np.float32((np.log(threshold / (1 - threshold)) - calibration.bias) * calibration.temperature)

    def under(margin: np.float32) -> bool:
        return bool(calibration.apply([margin])[0] < threshold)

    while not under(at):
        at = np.nextafter(at, np.float32(-np.inf))
    while under(np.nextafter(at, np.float32(np.inf))):
        at = np.nextafter(at, np.float32(np.inf))
    return at, np.nextafter(at, np.float32(np.inf))

"""Did a change help? One figure with and without it over repeated random splits, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from knowngood.errors import KnownGoodError

Outcome: TypeAlias = Literal["helped", "hurt", "cannot tell"]


@dataclass(frozen=True)
class RepeatedDifference:
    """The difference that a change made, over repeats that differ in their seed.

    Attributes:
        difference: Mean of with - without, in the figure's own unit.
        interval: (low, high) of that mean.
        repeats: How many seeds.
        outcome: "helped" or "hurt" where the interval leaves nought out, else "cannot tell"; also where all repeats
            differ by exactly the same, since repeats without any spread are one measurement counted several times.
    """

    difference: float
    interval: tuple[float, float]
    repeats: int
    outcome: Outcome


def compare_repeats(
    with_change: npt.ArrayLike,
    without: npt.ArrayLike,
    *,
    overlap: float,
    confidence: float = 0.95,
    higher_is_better: bool = True,
) -> RepeatedDifference:
    """Compares a figure with and without a change, measured on the same splits.

    Random splits of one set share most of their images, so that the spread over seeds alone makes the interval too
    narrow; the variance is therefore multiplied by (1/n + test/train) instead of 1/n.

    Args:
        with_change: (n,) the figure, a value a seed.
        without: (n,) the same without the change, in the order of the same seeds.
        overlap: Test images for each training image (test/train); 0 gives the plain t interval.
        confidence: Of the interval, in (0, 1).
        higher_is_better: False for figures such as overkill.

    Raises:
        KnownGoodError: Fewer than two pairs, or lengths that differ.

    Reference:
        Nadeau & Bengio 2003, "Inference for the generalization error", the corrected resampled t-test.
    """
    first, second = np.asarray(with_change, np.float64), np.asarray(without, np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise KnownGoodError(
            f"Figures of shape {first.shape} and {second.shape} do not pair.", expected="the same two seeds at least"
        )
    differences, count = first - second, len(first)
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + overlap) * differences.var(ddof=1)))
    reach = float(student.ppf((1 + confidence) / 2, count - 1)) * error
    low, high = mean - reach, mean + reach
    up, down = ("helped", "hurt") if higher_is_better else ("hurt", "helped")
    spread = bool(np.ptp(differences) > 0)
    outcome = "cannot tell" if not spread else up if low > 0 else down if high < 0 else "cannot tell"
    return RepeatedDifference(mean, (low, high), count, outcome)  # type: ignore[arg-type]

"""What a threshold costs: escapes, overkill and reviews in money, at the defect rate of the line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from knowngood.errors import CalibrationError
from knowngood.metrics.curves import Floats, checked
from knowngood.metrics.thresholds import Thresholds

MILLION = 1_000_000


class Prices(BaseModel):
    """Prices of the mistakes, in any one currency, and how often units are bad on the line."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    escape: float = Field(ge=0, description="Cost of one bad unit passed on.")
    overkill: float = Field(ge=0, description="Cost of one good unit thrown away.")
    review: float = Field(default=0.0, ge=0, description="Cost of one unit looked at by a person.")
    defect_rate: float = Field(gt=0, lt=1, description="Share of bad units arriving on the line.")


@dataclass(frozen=True)
class Cost:
    """What happens to a million units, and what it costs.

    Attributes:
        thresholds: The pair that was priced.
        escapes: Bad units accepted, per million.
        overkill: Good units rejected, per million.
        reviews: Units sent to a person, per million.
        total: In the currency of the prices, per million units.
    """

    thresholds: Thresholds
    escapes: float
    overkill: float
    reviews: float
    total: float


def expected_cost(labels: npt.ArrayLike, scores: npt.ArrayLike, *, thresholds: Thresholds, prices: Prices) -> Cost:
    """Returns what a million units of the line cost at these thresholds.

    Rates within each class are measured here and weighed with the line's defect rate, not with the share of
    bads among these images, which is far higher than on a line. A reviewer is taken to decide rightly.

    Args:
        labels: (N,) 0 good, 1 bad; both present.
        scores: (N,) defect scores.
        thresholds: The pair to price.
        prices: Of the mistakes.

    Raises:
        CalibrationError: One class only.
    """
    bad, good = _by_class(labels, scores)
    pi = prices.defect_rate
    low, high = thresholds.accept_below, thresholds.reject_from
    escapes = MILLION * pi * float((bad < low).mean())
    overkill = MILLION * (1 - pi) * float((good >= high).mean())
    reviews = MILLION * (pi * _between(bad, low, high) + (1 - pi) * _between(good, low, high))
    total = escapes * prices.escape + overkill * prices.overkill + reviews * prices.review
    return Cost(thresholds, escapes, overkill, reviews, total)


def cheapest_threshold(labels: npt.ArrayLike, scores: npt.ArrayLike, *, prices: Prices) -> Cost:
    """Returns the single threshold that costs least; of equally cheap ones the lowest, with fewest escapes.

    Args:
        labels: (N,) of the calibration split, 0 good, 1 bad; both present.
        scores: (N,) defect scores.
        prices: Of the mistakes.

    Raises:
        CalibrationError: One class only.
    """
    bad, good = _by_class(labels, scores)
    every = np.unique(np.concatenate([bad, good]))
    cuts = np.append(every, np.nextafter(every[-1], np.inf))  # the last one rejects nothing
    escape = np.searchsorted(np.sort(bad), cuts, side="left") / bad.size
    overkill = 1 - np.searchsorted(np.sort(good), cuts, side="left") / good.size
    pi = prices.defect_rate
    cost = pi * escape * prices.escape + (1 - pi) * overkill * prices.overkill
    best = float(cuts[int(np.argmin(cost))])
    return expected_cost(labels, scores, thresholds=Thresholds(best, best), prices=prices)


def _by_class(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    label, score = checked(labels, scores)
    bad, good = score[label], score[~label]
    if not (bad.size and good.size):
        raise CalibrationError(
            f"Costs were asked for with {good.size} goods and {bad.size} bads.",
            expected="at least one of each",
            fix="Measure on a split that holds both classes.",
        )
    return bad, good


def _between(scores: Floats, low: float, high: float) -> float:
    return float(((scores >= low) & (scores < high)).mean())

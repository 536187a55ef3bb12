"""The thresholds of a cascade: a student decides what it is certain of, and the whole keeps one escape budget.

The student accepts units that score below `certainty` times the threshold; the large network decides the rest. A unit
is then accepted exactly where the smaller of (student's score / certainty) and (large network's score) lies below the
threshold. That is one score, and the exact bound of `choose_threshold` holds for it as for any other, as long as
`certainty` was not chosen on the same bads. What the student may reject besides can only lower the escapes, so that
this cut may be set on any images.

Both scores must be calibrated on one scale, such as probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from knowngood.errors import ConfigError
from knowngood.metrics.curves import Bools, Floats, checked
from knowngood.metrics.thresholds import Threshold, choose_threshold, threshold_at_overkill

CERTAINTIES = (1.0, 0.5, 0.25, 0.1, 0.03)
NEVER = 2.0  # a score from which nothing is rejected
FEWEST = 5  # bads on which a certainty can be chosen
_USUAL = 0.5
_ROUNDING = 1e-15
_HIGHEST = 1 - 1e-9  # of a threshold: a score of exactly 1 is no margin any more


@dataclass(frozen=True)
class CascadeCuts:
    """Where a cascade decides.

    Attributes:
        certainty: The student accepts below this share of the threshold.
        low: Student's score below which it accepts.
        high: Student's score from which it rejects; `NEVER` for never.
        threshold: Of the whole, with its certificate.
    """

    certainty: float
    low: float
    high: float
    threshold: Threshold

    def passed(self, student: Floats) -> Bools:
        """Says which units (N,) go on to the large network."""
        return np.asarray((student >= self.low) & (student < self.high))

    def whole(self, student: Floats, large: Floats) -> Floats:
        """Returns scores (N,) of the whole: whose network decided, a student's reject at least at the threshold."""
        rejected = np.maximum(student, self.threshold.threshold)
        own = np.where(student < self.low, student, rejected)
        return np.where(self.passed(student), large, own)


def cascade_cuts(
    labels: npt.ArrayLike,
    student: npt.ArrayLike,
    large: npt.ArrayLike,
    *,
    certainty: float,
    escape_budget: float = 0.01,
    overkill_budget: float | None = None,
    confidence: float = 0.95,
    overkill_loss: float = 0.005,
) -> CascadeCuts:
    """Returns cuts with which the whole keeps the escape budget, certified.

    Args:
        labels: (N,) of the calibration split, 0 good, 1 bad.
        student: (N,) calibrated scores of the student, 0..1.
        large: (N,) calibrated scores of the large network, 0..1.
        certainty: In (0, 1]; must not have been chosen on these bads.
        escape_budget: Highest escape rate of the whole.
        overkill_budget: When given, units are rejected only from the score at which the overkill of the whole is
            certified to be at most this. The student then rejects nothing.
        confidence: Of the certificate.
        overkill_loss: Share of the goods that the student may reject although the large network accepts them.

    Raises:
        CalibrationError: There is no bad among the labels.
        ConfigError: `certainty` is not in (0, 1].
    """
    if not 0 < certainty <= 1:
        raise ConfigError(f"certainty is {certainty}.", expected="above 0, and 1 at most")
    label, small = checked(labels, student)
    _, big = checked(labels, large)
    joint = np.minimum(np.minimum(small / certainty, big), 1.0)
    cut = choose_threshold(label, joint, escape_budget=escape_budget, confidence=confidence)
    cut = replace(cut, threshold=min(cut.threshold, _HIGHEST), reject_from=min(cut.threshold, _HIGHEST))
    low = certainty * cut.threshold * (1 - _ROUNDING)  # the bad that sets the threshold must not slip under
    if overkill_budget is not None:
        plain = CascadeCuts(certainty, low, NEVER, cut)
        good = plain.whole(small, big)[~label]
        band = threshold_at_overkill(good, overkill=overkill_budget, confidence=confidence)
        cut = replace(
            cut,
            reject_from=max(cut.threshold, band.threshold),
            overkill_budget=overkill_budget,
            certified_overkill_rate=band.certified_overkill_rate,
        )
        return _counted(CascadeCuts(certainty, low, NEVER, cut), label, small, big)
    high = _reject_from(small[~label], big[~label], low, cut.threshold, overkill_loss)
    return _counted(CascadeCuts(certainty, low, high, cut), label, small, big)


def _reject_from(student: Floats, large: Floats, low: float, threshold: float, loss: float) -> float:
    """Returns the lowest student's score from which at most a share `loss` of the goods is newly rejected."""
    accepted = np.sort(student[(student >= low) & (large < threshold)])[::-1]
    allowed = int(loss * len(student))
    return float(np.nextafter(accepted[allowed], np.inf)) if len(accepted) > allowed else low


def _counted(cuts: CascadeCuts, label: Bools, student: Floats, large: Floats) -> CascadeCuts:
    """States escapes and overkill of the decisions as they are made."""
    scores = cuts.whole(student, large)
    rejected = scores >= cuts.threshold.threshold
    overkill = float(rejected[~label].mean()) if (~label).any() else None
    return replace(cuts, threshold=replace(cuts.threshold, overkill=overkill))


@dataclass(frozen=True)
class Tried:
    """One certainty on images that it may be chosen on.

    Attributes:
        certainty: Tried.
        passed: Share of the units that goes on to the large network.
        overkill: Of the whole, at the threshold that keeps the budget there.
        overkill_alone: Of the large network alone.
    """

    certainty: float
    passed: float
    overkill: float
    overkill_alone: float


def try_certainties(
    labels: npt.ArrayLike,
    student: npt.ArrayLike,
    large: npt.ArrayLike,
    *,
    escape_budget: float = 0.01,
    confidence: float = 0.95,
    overkill_loss: float = 0.005,
    certainties: Iterable[float] = CERTAINTIES,
) -> list[Tried]:
    """Returns what each certainty would cost on images with labels, apart from those of the certificate."""
    label, small = checked(labels, student)
    _, big = checked(labels, large)
    alone = choose_threshold(label, big, escape_budget=escape_budget, confidence=confidence)
    made = []
    for certainty in certainties:
        cuts = cascade_cuts(
            label,
            small,
            big,
            certainty=certainty,
            escape_budget=escape_budget,
            confidence=confidence,
            overkill_loss=overkill_loss,
        )
        passed = float(cuts.passed(small).mean())
        made.append(Tried(certainty, passed, cuts.threshold.overkill or 0.0, alone.overkill or 0.0))
    return made


def choose_certainty(tried: list[Tried], bads: int, overkill_loss: float = 0.005) -> float:
    """Returns the certainty with the least passed on whose overkill is not above what is allowed.

    Args:
        tried: From `try_certainties`.
        bads: On which they were tried; below `FEWEST` nothing is concluded from them and 1/2 is taken.
        overkill_loss: More overkill than the large network's alone that is allowed.
    """
    if bads < FEWEST:
        return _USUAL
    fair = [one for one in tried if one.overkill <= one.overkill_alone + overkill_loss]
    if not fair:
        return min(tried, key=lambda one: one.overkill).certainty
    return min(fair, key=lambda one: (one.passed, one.certainty)).certainty

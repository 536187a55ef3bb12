"""Curves over all thresholds or scores: ROC and reliability, as arrays for whoever draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knowngood.decide.tally import CALIBRATION_BINS, Floats, Ints, Tally, checked, equal_mass_bins
from knowngood.errors import KnownGoodError


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: one entry a bin of equal counts, bins ascending.

    Attributes:
        score: (K,) mean score of the bin.
        share_bad: (K,) share of bads in the bin.
        count: (K,) images in the bin.
    """

    score: Floats
    share_bad: Floats
    count: Ints


def reliability(labels: npt.ArrayLike, scores: npt.ArrayLike, *, bins: int = CALIBRATION_BINS) -> Reliability:
    """Returns the points of a reliability plot over the bins of `expected_calibration_error`."""
    tally = Tally.of(*checked(labels, scores))
    starts = equal_mass_bins(tally, bins)
    if starts.size == 0:
        empty = np.empty(0)
        return Reliability(empty, empty, empty.astype(np.int64))
    both = tally.good[0] + tally.bad[0]
    count = np.add.reduceat(both, starts)
    return Reliability(
        np.add.reduceat(both * tally.values, starts) / count,
        np.add.reduceat(tally.bad[0], starts) / count,
        count.astype(np.int64),
    )


@dataclass(frozen=True)
class RocCurve:
    """The ROC curve from (0, 0), everything accepted, to (1, 1), everything rejected.

    Attributes:
        fpr: (K,) overkill rates, ascending.
        tpr: (K,) one minus the escape rates, ascending.
        thresholds: (K,) rejecting scores >= this gives the point; the first is infinite.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats


def roc_curve(labels: npt.ArrayLike, scores: npt.ArrayLike) -> RocCurve:
    """Returns every point of the ROC curve.

    Raises:
        KnownGoodError: One class only.
    """
    tally = Tally.of(*checked(labels, scores))
    if not (tally.goods[0] and tally.bads[0]):
        raise KnownGoodError("A ROC curve needs both classes.", expected="at least one good and one bad image")
    fpr = np.cumsum(tally.good[0, ::-1]) / tally.goods[0]
    tpr = np.cumsum(tally.bad[0, ::-1]) / tally.bads[0]
    start = np.zeros(1)
    return RocCurve(
        np.concatenate([start, fpr]),
        np.concatenate([start, tpr]),
        np.concatenate([[np.inf], tally.values[::-1]]),
    )

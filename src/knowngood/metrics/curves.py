"""Checked labels and scores, and their counts for each distinct score, from which all figures are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from knowngood.errors import KnownGoodError

CALIBRATION_BINS = 15

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Bools, Floats]:
    """Returns labels as bool (True = bad) and scores as float64, both (N,).

    Raises:
        KnownGoodError: Shapes differ, a label is neither 0 nor 1, or a score is NaN or infinite.
    """
    label, score = np.asarray(labels), finite(scores)
    if label.shape != score.shape:
        raise KnownGoodError(
            f"There are labels of shape {label.shape} for scores of shape {score.shape}.",
            expected="one label and one score an image, both of shape (N,)",
        )
    if not bool(np.isin(label, (0, 1)).all()):
        raise KnownGoodError(
            f"A label is {label[~np.isin(label, (0, 1))][0]!r}.",
            expected="0 (good) or 1 (bad)",
            fix="Leave unlabelled images out before measuring.",
        )
    return label.astype(np.bool_), score


def finite(scores: npt.ArrayLike) -> Floats:
    """Returns scores as float64 (N,), which keeps every float32 score and every threshold exact.

    Raises:
        KnownGoodError: Not one-dimensional, or a score is NaN or infinite.
    """
    score = np.asarray(scores, dtype=np.float64)
    if score.ndim != 1:
        raise KnownGoodError(f"The scores have shape {score.shape}.", expected="shape (N,)")
    bad = np.flatnonzero(~np.isfinite(score))
    if bad.size:
        raise KnownGoodError(
            f"{bad.size} of {score.size} scores are NaN or infinite, the first at row {bad[0]}.",
            expected="finite numbers",
            fix="Leave out the images that could not be scored, or train again with a lower --lr.",
        )
    return score


@dataclass(frozen=True)
class Tally:
    """How many goods and bads have each distinct score, for B samples at once.

    B is 1 for the data themselves and the number of resamples for a bootstrap, so that each figure
    is written once. All methods return (B,) float64, NaN where the figure does not exist.

    Attributes:
        values: (U,) distinct scores, ascending.
        good: (B, U) goods with that score.
        bad: (B, U) bads with that score.
    """

    values: Floats
    good: Floats
    bad: Floats

    @classmethod
    def of(cls, labels: Bools, scores: Floats) -> Tally:
        values, place = np.unique(scores, return_inverse=True)
        good = np.bincount(place[~labels], minlength=values.size).astype(np.float64)
        bad = np.bincount(place[labels], minlength=values.size).astype(np.float64)
        return cls(values, good[None], bad[None])

    @property
    def goods(self) -> Floats:
        return np.asarray(self.good.sum(axis=1))

    @property
    def bads(self) -> Floats:
        return np.asarray(self.bad.sum(axis=1))

    def auroc(self) -> Floats:
        """Probability that a bad scores higher than a good, ties counted half (Mann-Whitney)."""
        below = np.cumsum(self.good, axis=1) - 0.5 * self.good
        return _ratio((self.bad * below).sum(axis=1), self.goods * self.bads)

    def average_precision(self) -> Floats:
        """Step-wise area under precision over recall, as scikit-learn defines it."""
        caught, overkilled = _at_least(self.bad), _at_least(self.good)
        flagged = caught + overkilled
        precision = np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)
        total = _ratio((self.bad * precision).sum(axis=1), self.bads)
        return np.where(self.goods > 0, total, np.nan)

    def fpr_at_tpr(self, tpr: float) -> Floats:
        """Smallest FPR among the thresholds whose TPR is at least `tpr`."""
        if self.values.size == 0:
            return np.full(len(self.good), np.nan)
        # With n bads TPR moves in steps of 1/n; 1e-9 keeps 0.995 * 1000 at 995 whatever floats say.
        need = np.ceil(self.bads * tpr - 1e-9)
        caught = _at_least(self.bad)  # falls along the row, so the enough-caught thresholds come first
        last = np.maximum((caught >= need[:, None]).sum(axis=1) - 1, 0)
        overkilled = _at_least(self.good)[np.arange(len(last)), last]
        rate = _ratio(overkilled, self.goods)
        return np.where(self.bads > 0, rate, np.nan)

    def confusion(self, threshold: float) -> dict[str, Floats]:
        """Counts when a score >= `threshold` is rejected: tn, fp, fn, tp, each (B,)."""
        cut = int(np.searchsorted(self.values, threshold, side="left"))
        return {
            "tn": self.good[:, :cut].sum(axis=1),
            "fp": self.good[:, cut:].sum(axis=1),
            "fn": self.bad[:, :cut].sum(axis=1),
            "tp": self.bad[:, cut:].sum(axis=1),
        }

    def brier(self) -> Floats:
        """Mean squared distance between score and label."""
        loss = self.good @ self.values**2 + self.bad @ (1.0 - self.values) ** 2
        return _ratio(loss, self.goods + self.bads)

    def calibration_error(self, starts: Ints) -> Floats:
        """Expected calibration error over bins that begin at `starts`, see `equal_mass_bins`."""
        if starts.size == 0:
            return np.full(len(self.good), np.nan)
        gap = (self.good + self.bad) * self.values - self.bad
        return _ratio(np.abs(np.add.reduceat(gap, starts, axis=1)).sum(axis=1), self.goods + self.bads)


def equal_mass_bins(tally: Tally, bins: int) -> Ints:
    """Returns where each of at most `bins` bins of about equal counts begins in `tally.values`, (K,).

    Equal scores stay in one bin, so fewer bins come back when scores are few or discrete.
    """
    mass = np.cumsum((tally.good + tally.bad)[0])
    if mass.size == 0:
        return np.empty(0, dtype=np.int64)
    edges = np.searchsorted(mass, np.arange(1, bins) * mass[-1] / bins, side="left") + 1
    starts = np.unique(np.concatenate([[0], edges]))
    return np.asarray(starts[starts < mass.size], dtype=np.int64)


def _at_least(counts: Floats) -> Floats:
    """Returns how many have this score or a higher one, (B, U)."""
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan, dtype=np.float64), where=whole > 0)


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

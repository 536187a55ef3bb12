"""How well scores separate bad from good, each figure with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

from knowngood.errors import KnownGoodError
from knowngood.metrics.curves import CALIBRATION_BINS, Bools, Floats, Ints, Tally, checked, equal_mass_bins
from knowngood.metrics.thresholds import proportion_interval

TPRS = (0.991, 0.993, 0.995, 0.997, 1.0)
_CELLS = 2_000_000  # resamples x distinct scores held at once: 16 MB a matrix

Interval = tuple[float, float]


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Returns the area under the ROC curve, ties counted half, or None with one class only.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) defect scores, any finite range, higher = more likely bad.
    """
    return _or_none(Tally.of(*checked(labels, scores)).auroc()[0])


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Returns the step-wise area under precision over recall, or None with one class only.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) defect scores, any finite range.
    """
    return _or_none(Tally.of(*checked(labels, scores)).average_precision()[0])


def fpr_at_tpr(labels: npt.ArrayLike, scores: npt.ArrayLike, tpr: float) -> float | None:
    """Returns the overkill at a fixed escape rate: the smallest FPR among thresholds with TPR >= `tpr`.

    A threshold t rejects scores >= t, so only the scores themselves are tried as thresholds and equal scores
    are rejected together. With n bads the TPR moves in steps of 1/n and is rounded in the safe direction: at
    least ceil(n * tpr) bads are caught. With fewer than 1 / (1 - tpr) bads that means all of them.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) defect scores, any finite range.
        tpr: Share of the bads that must be caught, in (0, 1].

    Returns:
        Share of the goods rejected, in [0, 1]; None with one class only.
    """
    return _or_none(Tally.of(*checked(labels, scores)).fpr_at_tpr(tpr)[0])


def expected_calibration_error(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, bins: int = CALIBRATION_BINS
) -> float | None:
    """Returns the mean gap between score and share of bads over bins of equal counts; None without images.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) defect scores in [0, 1].
        bins: Number of bins; equal scores stay together, so discrete scores give fewer.

    Reference:
        Naeini et al. 2015 with the equal-mass bins of Nguyen and O'Connor 2015.
    """
    label, score = checked(labels, scores)
    _within_unit(score)
    tally = Tally.of(label, score)
    return _or_none(tally.calibration_error(equal_mass_bins(tally, bins))[0])


@dataclass(frozen=True)
class Metrics:
    """Every figure of one split; None where a figure cannot exist, for instance an AUC of one class.

    Attributes:
        figures: auroc, average_precision, accuracy, balanced_accuracy, f1, precision, recall, escape_rate,
            overkill_rate, ece, brier.
        intervals: The same names to (low, high).
        fpr_at_tpr: TPR to the smallest FPR that reaches it.
        fpr_at_tpr_intervals: TPR to (low, high).
        confusion: tn, fp, fn, tp at `threshold`.
        n_good: Number of goods.
        n_bad: Number of bads.
        threshold: Scores >= this count as rejected.
        confidence: Of the intervals.
        resamples: Of the bootstrap.
    """

    figures: dict[str, float | None]
    intervals: dict[str, Interval | None]
    fpr_at_tpr: dict[float, float | None]
    fpr_at_tpr_intervals: dict[float, Interval | None]
    confusion: dict[str, int]
    n_good: int
    n_bad: int
    threshold: float
    confidence: float
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON-ready values, as they stand in metrics.json."""
        document: dict[str, Any] = {}
        for name, value in self.figures.items():
            document[name] = value
            document[f"{name}_ci"] = _listed(self.intervals[name])
        document["fpr_at_tpr"] = {f"{tpr:g}": value for tpr, value in self.fpr_at_tpr.items()}
        document["fpr_at_tpr_ci"] = {f"{t:g}": _listed(ci) for t, ci in self.fpr_at_tpr_intervals.items()}
        document["confusion"] = dict(self.confusion)
        document |= {"n_good": self.n_good, "n_bad": self.n_bad, "threshold": self.threshold}
        return document | {"confidence": self.confidence, "resamples": self.resamples}


def compute_metrics(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    threshold: float,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Returns every figure of one split with its interval.

    Shares of counted units (accuracy, precision, recall, escape and overkill rate) have exact binomial intervals, at
    rates of 0 and 1 as well (Clopper and Pearson 1934). The other figures have stratified bootstrap percentile
    intervals: goods and bads are resampled apart, so that the class balance stays. Where all resamples agree, which
    says only that there are few images, the AUC has the interval of Newcombe (2006), an overkill at a fixed escape
    rate the exact interval of its share, and every other figure None. The bins of the calibration error are those of
    the data in every resample; its interval sits high, because resampling adds noise to every bin.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores: (N,) defect scores in [0, 1].
        threshold: Scores >= this count as rejected; chosen elsewhere, never on these data.
        confidence: Of the intervals, in (0, 1).
        resamples: Bootstrap resamples; 0 leaves the intervals out.
        seed: Of the resampling.

    Raises:
        KnownGoodError: NaN scores, scores outside [0, 1], labels other than 0 and 1.
    """
    return metrics_at(labels, scores, thresholds=(threshold,), confidence=confidence, resamples=resamples, seed=seed)[0]


def metrics_at(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    thresholds: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Metrics]:
    """Returns the figures of `compute_metrics` at each of several thresholds, from one bootstrap."""
    label, score = checked(labels, scores)
    _within_unit(score)
    tally = Tally.of(label, score)
    bins = equal_mass_bins(tally, CALIBRATION_BINS)
    points = _figures_at(tally, thresholds, bins)
    drawn: list[dict[str, Interval | None]] = [dict.fromkeys(point) for point in points]
    if resamples and score.size:
        drawn = _bootstrap(label, score, thresholds, bins, confidence, resamples, seed)
    rates = {tpr: _rate_name(tpr) for tpr in TPRS}
    found = []
    for threshold, point, intervals in zip(thresholds, points, drawn, strict=True):
        counts = {name: int(count[0]) for name, count in tally.confusion(threshold).items()}
        figures = {name: _or_none(value[0]) for name, value in point.items()}
        ends = _sound(intervals, figures, counts, confidence) if resamples else intervals
        found.append(
            Metrics(
                figures={name: value for name, value in figures.items() if name not in rates.values()},
                intervals={name: ends[name] for name in figures if name not in rates.values()},
                fpr_at_tpr={tpr: figures[name] for tpr, name in rates.items()},
                fpr_at_tpr_intervals={tpr: ends[name] for tpr, name in rates.items()},
                confusion=counts,
                n_good=int((~label).sum()),
                n_bad=int(label.sum()),
                threshold=float(threshold),
                confidence=confidence,
                resamples=resamples,
            )
        )
    return found


def _figures_at(tally: Tally, thresholds: Sequence[float], bins: Ints) -> list[dict[str, Floats]]:
    """Returns the figures (B,) by name for each threshold; those that need none are computed once."""
    ranking = {"auroc": tally.auroc(), "average_precision": tally.average_precision()}
    others = {"ece": tally.calibration_error(bins), "brier": tally.brier()}
    others |= {_rate_name(tpr): tally.fpr_at_tpr(tpr) for tpr in TPRS}
    found = []
    for threshold in thresholds:
        cells = tally.confusion(threshold)
        tn, fp, fn, tp = (cells[name] for name in ("tn", "fp", "fn", "tp"))
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN on purpose: the figure does not exist
            recall, specificity = tp / (tp + fn), tn / (tn + fp)
            decisions = {
                "accuracy": (tn + tp) / (tn + fp + fn + tp),
                "balanced_accuracy": (recall + specificity) / 2,
                "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
                "precision": tp / (tp + fp),
                "recall": recall,
                "escape_rate": fn / (tp + fn),
                "overkill_rate": fp / (tn + fp),
            }
        found.append(ranking | decisions | others)
    return found


def _bootstrap(
    label: Bools,
    score: Floats,
    thresholds: Sequence[float],
    bins: Ints,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[dict[str, Interval | None]]:
    values, place = np.unique(score, return_inverse=True)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // values.size)  # scores are sorted once; a resample is only a set of weights
    drawn: list[list[dict[str, Floats]]] = []
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        good = _resampled(place[~label], values.size, rows, rng)
        bad = _resampled(place[label], values.size, rows, rng)
        drawn.append(_figures_at(Tally(values, good, bad), thresholds, bins))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    return [
        {name: _percentiles(np.concatenate([part[name] for part in parts]), tails) for name in parts[0]}
        for parts in zip(*drawn, strict=True)
    ]


def _sound(
    drawn: dict[str, Interval | None], figures: dict[str, float | None], counts: dict[str, int], confidence: float
) -> dict[str, Interval | None]:
    """Replaces bootstrap intervals by exact ones where there are such, and those without width by ones that have it."""
    tn, fp, fn, tp = (counts[name] for name in ("tn", "fp", "fn", "tp"))
    goods, bads = tn + fp, fn + tp
    exact = {
        "accuracy": (tn + tp, goods + bads),
        "precision": (tp, tp + fp),
        "recall": (tp, bads),
        "escape_rate": (fn, bads),
        "overkill_rate": (fp, goods),
    }
    found: dict[str, Interval | None] = {}
    for name, interval in drawn.items():
        figure = figures[name]
        if figure is None:
            found[name] = None
        elif name in exact:
            found[name] = proportion_interval(*exact[name], confidence)
        elif interval is not None and interval[0] < interval[1]:
            found[name] = interval
        elif name == "auroc":
            found[name] = auroc_interval(figure, goods, bads, confidence)
        elif name.startswith("fpr_at_"):
            found[name] = proportion_interval(round(figure * goods), goods, confidence)
        else:
            found[name] = None
    return found


def auroc_interval(area: float, goods: int, bads: int, confidence: float = 0.95) -> Interval:
    """Returns an interval for an AUC that has width at 0 and 1 too.

    Args:
        area: The AUC, in [0, 1].
        goods: Number of goods, at least 1.
        bads: Number of bads, at least 1.
        confidence: Two-sided, in (0, 1).

    Reference:
        Newcombe 2006, Statistics in Medicine 25, 559-573, method 5: the values t with
        |area - t| <= z sqrt(V(t)), V(t) = t (1 - t) [1 + N (1 - t) / (2 - t) + N t / (1 + t)] / (goods bads),
        N = (goods + bads) / 2 - 1.
    """
    z, half = float(norm.ppf((1 + confidence) / 2)), (goods + bads) / 2 - 1

    def beyond(value: float) -> float:
        spread = value * (1 - value) * (1 + half * (1 - value) / (2 - value) + half * value / (1 + value))
        return abs(area - value) - z * math.sqrt(max(spread, 0) / (goods * bads))

    low = 0.0 if area == 0 else brentq(beyond, 0.0, area - 1e-12)
    high = 1.0 if area == 1 else brentq(beyond, area + 1e-12, 1.0)
    return float(low), float(high)


def _resampled(places: Ints, size: int, rows: int, rng: np.random.Generator) -> Floats:
    """Returns (rows, size) counts of `len(places)` draws with replacement a row."""
    if places.size == 0:
        return np.zeros((rows, size))
    drawn = places[rng.integers(0, places.size, (rows, places.size))]
    drawn += (np.arange(rows) * size)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def _percentiles(values: Floats, tails: list[float]) -> Interval | None:
    real = values[~np.isnan(values)]
    if real.size == 0:
        return None
    low, high = np.quantile(real, tails)
    return float(low), float(high)


def _within_unit(score: Floats) -> None:
    if score.size and (score.min() < 0 or score.max() > 1):
        raise KnownGoodError(
            f"The scores run from {score.min():.4g} to {score.max():.4g}.",
            expected="defect scores in [0, 1]",
            fix="Pass logits through a Calibration first.",
        )


def _rate_name(tpr: float) -> str:
    return f"fpr_at_{tpr:g}"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)

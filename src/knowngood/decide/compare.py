"""Is one model really better than another on the same images? Paired tests, because the images are shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

from knowngood.decide.tally import Bools, Floats, checked
from knowngood.errors import KnownGoodError


@dataclass(frozen=True)
class AucComparison:
    """Two AUCs on the same images.

    Attributes:
        auroc_a: Of the first model.
        auroc_b: Of the second model.
        difference: auroc_a - auroc_b.
        interval: (low, high) of the difference.
        p_value: Two-sided, for no difference.
        error: Standard error of the difference.
    """

    auroc_a: float
    auroc_b: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    error: float


@dataclass(frozen=True)
class AccuracyComparison:
    """Two sets of decisions on the same images.

    Attributes:
        only_a_right: Images that only the first model decides rightly.
        only_b_right: Images that only the second model decides rightly.
        p_value: Two-sided, exact, for no difference.
        difference: Accuracy of the first minus that of the second.
        error: Standard error of the difference.
    """

    only_a_right: int
    only_b_right: int
    p_value: float
    difference: float
    error: float


def auroc_covariance(labels: npt.ArrayLike, *scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Returns the AUCs of M scorers on the same images and their covariance by DeLong.

    Args:
        labels: (N,) 0 good, 1 bad; at least two of each.
        scores: M times (N,) defect scores.

    Returns:
        (M,) AUCs and (M, M) covariance.

    Raises:
        KnownGoodError: Fewer than two goods or two bads.

    Reference:
        DeLong et al. 1988, equations 5 to 8; ranks instead of pairs as in Sun and Xu 2014, O(N log N).
    """
    pairs = [checked(labels, score) for score in scores]
    label = pairs[0][0]
    bads, goods = int(label.sum()), int((~label).sum())
    if min(bads, goods) < 2:
        raise KnownGoodError(f"DeLong's test got {goods} goods and {bads} bads.", expected="at least two of each class")
    parts = [_structural(label, score) for _, score in pairs]
    of_bad, of_good = np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])
    covariance = np.atleast_2d(np.cov(of_bad)) / bads + np.atleast_2d(np.cov(of_good)) / goods
    return of_bad.mean(axis=1), covariance


def compare_auroc(
    labels: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, *, confidence: float = 0.95
) -> AucComparison:
    """Tests by DeLong whether two scorers have the same AUC on the same images.

    Args:
        labels: (N,) 0 good, 1 bad.
        scores_a: (N,) of the first model.
        scores_b: (N,) of the second model.
        confidence: Of the interval of the difference.
    """
    auc, covariance = auroc_covariance(labels, scores_a, scores_b)
    difference = float(auc[0] - auc[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = float(np.sqrt(max(variance, 0.0)))
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    # Without any spread (the same order of all pairs) a difference is either nought or certain.
    p_value = 2 * float(norm.sf(abs(difference) / error)) if error > 1e-12 else float(abs(difference) < 1e-12)
    interval = (difference - reach, difference + reach)
    return AucComparison(float(auc[0]), float(auc[1]), difference, interval, p_value, error)


def compare_accuracy(
    labels: npt.ArrayLike, decisions_a: npt.ArrayLike, decisions_b: npt.ArrayLike
) -> AccuracyComparison:
    """Tests by McNemar's exact test whether two models are right equally often on the same images.

    Args:
        labels: (N,) 0 good, 1 bad.
        decisions_a: (N,) 0 accepted, 1 rejected, of the first model.
        decisions_b: (N,) the same of the second.

    Reference:
        McNemar 1947; exact form: the images on which they differ are a fair coin's throws.
    """
    label, first = checked(labels, decisions_a)
    _, second = checked(labels, decisions_b)
    right_a, right_b = (first == label), (second == label)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differ = only_a + only_b
    p_value = float(binomtest(only_a, differ, 0.5).pvalue) if differ else 1.0
    count = max(label.size, 1)
    difference = (only_a - only_b) / count
    error = float(np.sqrt(max(differ / count - difference**2, 0.0) / count))
    return AccuracyComparison(only_a, only_b, p_value, difference, error)


def _structural(label: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Returns, for each bad, the share of goods below it, and for each good, the share of bads above it."""
    bad, good = score[label], score[~label]
    ranks = rankdata(score)
    of_bad = (ranks[label] - rankdata(bad)) / good.size
    of_good = 1 - (ranks[~label] - rankdata(good)) / bad.size
    return of_bad, of_good

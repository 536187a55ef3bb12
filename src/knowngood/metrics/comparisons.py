"""Is one model really better than another on the same images? Paired tests, because the images are shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata
from scipy.stats import t as student

from knowngood.errors import KnownGoodError
from knowngood.metrics.curves import Bools, Floats, checked


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


_NO_ERROR = 1e-12


@dataclass(frozen=True)
class Combined:
    """A figure, or a difference of two, over seeds.

    Attributes:
        mean: Over the seeds.
        error: Standard error of that mean: of the images and of the trainings.
        interval: (low, high).
        p_value: Two-sided, for nought.
        seeds: How many.
    """

    mean: float
    error: float
    interval: tuple[float, float]
    p_value: float
    seeds: int


def over_seeds(values: npt.ArrayLike, errors: npt.ArrayLike, *, confidence: float = 0.95) -> Combined:
    """Combines a figure that was measured with several seeds.

    Two things make it uncertain: which images were tested, and how the training went. The seeds share test images, so
    that the error of the images is not averaged away (as if they shared all of them, the careful side); the spread
    between seeds is, by the square root of their number:
    error^2 = (mean of errors)^2 + variance of values / number. One seed leaves the error of the images alone.

    Args:
        values: (K,) the figure with each seed.
        errors: (K,) its standard error for the images with each seed (DeLong's, McNemar's).
        confidence: Of the interval, in (0, 1).

    Raises:
        KnownGoodError: No seed, or lengths that differ.

    Reference:
        Degrees of freedom by Welch 1947 and Satterthwaite 1946, with infinitely many for the error of the images.
    """
    value, each = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    if value.ndim != 1 or value.shape != each.shape or not value.size:
        raise KnownGoodError(f"Figures of shape {value.shape} and errors of shape {each.shape} do not go together.")
    count = value.size
    training = float(value.var(ddof=1)) / count if count > 1 else 0.0
    mean, squared = float(value.mean()), float(each.mean()) ** 2 + training
    error = float(np.sqrt(squared))
    if error < _NO_ERROR:  # without any spread a difference is either nought or certain
        return Combined(mean, 0.0, (mean, mean), float(abs(mean) < _NO_ERROR), count)
    law = student(squared**2 / (training**2 / (count - 1))) if training > _NO_ERROR**2 else norm
    reach = float(law.ppf((1 + confidence) / 2)) * error
    return Combined(mean, error, (mean - reach, mean + reach), 2 * float(law.sf(abs(mean) / error)), count)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Returns p values that may be compared with one level although there are many of them.

    Args:
        p_values: (M,) in [0, 1], of any dependence.

    Returns:
        (M,) in [0, 1]: the chance of a single false alarm among all M stays below the level.

    Reference:
        Holm 1979.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)) if given.size else given
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


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

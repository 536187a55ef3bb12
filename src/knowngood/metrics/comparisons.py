"""Is one model really better than another? Tests paired by image, and their differences combined over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata
from scipy.stats import t as student

from knowngood.errors import KnownGoodError
from knowngood.metrics.curves import Bools, Floats, Tally, checked


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
        only_a_right: Images that only the first model decides correctly.
        only_b_right: Images that only the second model decides correctly.
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
    # Without any spread (the same order of all pairs) a difference is either zero or certain.
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
        McNemar 1947; exact form: the images on which the two differ follow a binomial distribution with p = 1/2.
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


@dataclass(frozen=True)
class OverkillComparison:
    """The overkill of two scorers at the same escape rate on the same images.

    Attributes:
        difference: Overkill of the first minus that of the second, in [-1, 1].
        error: Standard error of the difference.
    """

    difference: float
    error: float


_RESAMPLES = 300  # of the test images, for the standard error of an overkill


def compare_overkill(
    labels: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, *, tpr: float, seed: int = 0
) -> OverkillComparison:
    """Compares the overkill of two scorers, each at its own threshold for the same escape rate.

    Args:
        labels: (N,) 0 good, 1 bad; at least one of each.
        scores_a: (N,) of the first model.
        scores_b: (N,) of the second model.
        tpr: Share of the bads that both must catch, in (0, 1].
        seed: Of the bootstrap, which resamples goods and bads apart, the same images for both models.
    """
    label, first = checked(labels, scores_a)
    _, second = checked(labels, scores_b)
    goods, bads = np.flatnonzero(~label), np.flatnonzero(label)
    if not (goods.size and bads.size):
        raise KnownGoodError("An overkill at a TPR needs both classes.", expected="at least one good and one bad image")
    rng = np.random.default_rng(seed)
    draws = [
        (rng.integers(0, goods.size, goods.size), rng.integers(0, bads.size, bads.size)) for _ in range(_RESAMPLES)
    ]
    good, bad = (np.stack(part) for part in zip(*draws, strict=True))
    rates = [_resampled_overkill(score[goods][good], score[bads][bad], tpr) for score in (first, second)]
    points = [float(Tally.of(label, score).fpr_at_tpr(tpr)[0]) for score in (first, second)]
    return OverkillComparison(points[0] - points[1], float(np.std(rates[0] - rates[1], ddof=1)))


def _resampled_overkill(good: Floats, bad: Floats, tpr: float) -> Floats:
    """Returns the smallest FPR (B,) that reaches a TPR, of scores (B, goods) and (B, bads)."""
    need = int(np.ceil(bad.shape[1] * tpr - 1e-9))  # as in `Tally.fpr_at_tpr`
    cut = np.partition(bad, bad.shape[1] - need, axis=1)[:, bad.shape[1] - need]
    return np.asarray((good >= cut[:, None]).mean(axis=1))


Direction: TypeAlias = Literal["helped", "hurt", "cannot tell"]
CANNOT_TELL: Direction = "cannot tell"
_NO_ERROR = 1e-12


@dataclass(frozen=True)
class OverSeeds:
    """A figure, or a difference of two, over seeds.

    Attributes:
        mean: Over the seeds.
        error: Standard error of that mean: of the images and of the trainings.
        interval: (low, high).
        p_value: Two-sided, for zero.
        seeds: How many.
    """

    mean: float
    error: float
    interval: tuple[float, float]
    p_value: float
    seeds: int

    def outcome(self, *, higher_is_better: bool = True) -> Direction:
        """Returns "helped" or "hurt" where the interval of a difference excludes zero, else "cannot tell".

        Without any error (equal differences on images whose order never changes) it is "cannot tell" as well: that is
        one measurement counted several times.

        Args:
            higher_is_better: False for figures such as overkill.
        """
        low, high = self.interval
        if not self.error or low <= 0 <= high:
            return CANNOT_TELL
        return "helped" if (low > 0) == higher_is_better else "hurt"


def over_seeds(values: npt.ArrayLike, errors: npt.ArrayLike, *, confidence: float = 0.95) -> OverSeeds:
    """Returns the mean of a figure over several seeds, with its standard error and interval.

    The figure is uncertain for two reasons: which images were tested, and how the training went. Seeds share test
    images, so the error of the images is not averaged over the seeds (it is taken as if they shared all images, which
    is conservative); the spread between seeds is divided by their number:
    error^2 = (mean of errors)^2 + variance of values / number. With one seed only the error of the images remains.

    Args:
        values: (K,) the figure with each seed.
        errors: (K,) its standard error for the images with each seed (DeLong's, McNemar's, the bootstrap's).
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
    if error < _NO_ERROR:  # without any spread a difference is either zero or certain
        return OverSeeds(mean, 0.0, (mean, mean), float(abs(mean) < _NO_ERROR), count)
    law = student(squared**2 / (training**2 / (count - 1))) if training > _NO_ERROR**2 else norm
    reach = float(law.ppf((1 + confidence) / 2)) * error
    return OverSeeds(mean, error, (mean - reach, mean + reach), 2 * float(law.sf(abs(mean) / error)), count)


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

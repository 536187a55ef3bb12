"""How generated images compare with real ones: copies of training images, KID, overlap, diversity, outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from knowngood.errors import DataError
from knowngood.models.distances import squared_distances
from knowngood.outliers.detectors import row_blocks
from knowngood.outliers.neighbours import Neighbours

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
NEAR = 0.5  # of what the nearest real images have between them: closer than that is a copy
_NEAREST = 0.05  # share of the real distances that the above is taken of


@dataclass(frozen=True, eq=False)
class Memory:
    """Distances of samples to the training images of their generator.

    Attributes:
        nearest: int64 (M,), row of the training image that is nearest to each sample.
        distance: (M,), to it.
        real: (R,), the same distances of real images: unseen ones, or else the training images among themselves.
        level: Distance below which a sample counts as a copy.
        copy: bool (M,).
        nearer: Chance, 0..1, that a sample is nearer to a training image than a real image is: 0.5 is as novel as real
            ones, 1 is memorised.
    """

    nearest: Ids
    distance: Floats
    real: Floats
    level: float
    copy: Bools
    nearer: float


def memory(samples: Rows, training: Rows, unseen: Rows | None = None) -> Memory:
    """Compares samples with the images that their generator learned from.

    Args:
        samples: (M, D) features.
        training: (N, D) features of the training images.
        unseen: (R, D) features of real images of the same kind that it did not learn from; without them the training
            images stand in for these, each against the others.

    Raises:
        DataError: There are too few images.

    Reference:
        `nearer` is the statistic of Meehan et al. 2020, "A non-parametric test to detect data-copying", over the whole
        space.
    """
    if len(samples) < 1 or len(training) < 2:
        raise DataError(
            f"{len(samples)} samples and {len(training)} training images cannot be compared.", expected="1, 2"
        )
    found = Neighbours(training)
    distances, rows = found.nearest(samples, 1)
    distance, nearest = distances[:, 0], rows[:, 0]
    if unseen is not None and len(unseen):
        real = found.nearest(unseen, 1)[0][:, 0]
    else:
        real = found.nearest(training, 1, owner=np.arange(len(training)))[0][:, 0]
    level = NEAR * float(np.quantile(real, _NEAREST))
    ranks = rankdata(np.concatenate([distance, real]))[: len(distance)]
    below = (ranks.sum() - len(distance) * (len(distance) + 1) / 2) / (len(distance) * len(real))
    return Memory(nearest, distance, real, level, distance < level, float(1 - below))


def spread(rows: Rows) -> float:
    """Returns the mean squared distance of two different rows: how unlike each other the images of a set are."""
    values = np.asarray(rows, np.float64)
    if len(values) < 2:
        raise DataError(f"{len(values)} images have no spread.", expected="two or more")
    return float(2 * values.var(axis=0, ddof=1).sum())


def vendi(rows: Rows) -> float:
    """Returns the effective number of different images, 1..N, by the cosine of their centred features.

    Args:
        rows: (N, D) features, centred by the caller on whatever they are compared by.

    Reference:
        Friedman and Dieng 2023, "The Vendi score", equation 1: exp of the entropy of the kernel's eigenvalues over N.
    """
    values = np.asarray(rows, np.float64)
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    product = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # the same eigenvalues but for noughts
    shares = np.linalg.eigvalsh(product / len(unit))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


DEGREE, OFFSET = 3, 1.0  # of the kernel (x.y / D + 1)^3
LEAST = 3  # rows of each set: leaving one out must leave two


@dataclass(frozen=True)
class Kid:
    """Kernel distance of two sets.

    Attributes:
        value: Squared maximum mean discrepancy, unbiased: near nought for equal distributions, then also below it.
        error: Its standard error.
        interval: (low, high).
        sizes: Images of the first and the second set.
    """

    value: float
    error: float
    interval: tuple[float, float]
    sizes: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return {"value": self.value, "error": self.error, "interval": list(self.interval), "images": list(self.sizes)}


def kid(first: Rows, second: Rows, *, confidence: float = 0.95) -> Kid:
    """Returns the kernel inception distance of two sets, on the features of whatever network.

    Args:
        first: (M, D) features.
        second: (N, D) features.
        confidence: Of the interval, in (0, 1).

    Raises:
        DataError: Fewer than three rows, widths that differ, or values that are not finite.

    Reference:
        Binkowski et al. 2018, "Demystifying MMD GANs", section 4: the unbiased estimator (Gretton et al. 2012,
        equation 3) with the kernel (x.y / D + 1)^3. Here over all pairs at once instead of over random subsets; the
        error is that of the two-sample jackknife.
    """
    x, y = _checked(first, second)
    own_x, own_y, across_x, across_y = _row_sums(x, x), _row_sums(y, y), _row_sums(x, y), _row_sums(y, x)
    own_x, own_y = own_x - _kernel_of_self(x), own_y - _kernel_of_self(y)
    m, n = len(x), len(y)
    within_x, within_y, between = own_x.sum(), own_y.sum(), across_x.sum()
    value = within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * between / (m * n)
    without_x = (
        (within_x - 2 * own_x) / ((m - 1) * (m - 2))
        + within_y / (n * (n - 1))
        - 2 * (between - across_x) / ((m - 1) * n)
    )
    without_y = (
        within_x / (m * (m - 1))
        + (within_y - 2 * own_y) / ((n - 1) * (n - 2))
        - 2 * (between - across_y) / (m * (n - 1))
    )
    error = float(np.sqrt(_jackknife(without_x) + _jackknife(without_y)))
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    return Kid(float(value), error, (float(value) - reach, float(value) + reach), (m, n))


def _jackknife(values: Floats) -> float:
    """Returns the variance that leaving out each of n images in turn shows."""
    return float((len(values) - 1) / len(values) * np.square(values - values.mean()).sum())


def _row_sums(first: Floats, second: Floats) -> Floats:
    sums = [_kernel(first[block] @ second.T, first.shape[1]).sum(axis=1) for block in row_blocks(first, len(second))]
    return np.concatenate(sums)


def _kernel_of_self(rows: Floats) -> Floats:
    return _kernel(np.square(rows).sum(axis=1), rows.shape[1])


def _kernel(products: Floats, width: int) -> Floats:
    return np.asarray((products / width + OFFSET) ** DEGREE, np.float64)


def _checked(first: Rows, second: Rows) -> tuple[Floats, Floats]:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < LEAST:
        raise DataError(
            f"Features {x.shape} and {y.shape} have no KID.", expected=f"(M, D), (N, D), M and N >= {LEAST}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("Features that are not finite have no KID.", fix="Leave images that cannot be decoded out.")
    return x, y


K = 3
_DRAWS = 10  # subsets of the larger set


@dataclass(frozen=True)
class Overlap:
    """How two sets overlap.

    Attributes:
        precision: Share of the samples, 0..1, that lie among the real images: low is broken or strange.
        recall: Share of the real images, 0..1, that lie among the samples: low is what is never made.
        images: Of each set: both are counted at one size, since the figures depend on it.
        draws: Over how many subsets of the larger set they are averaged.
    """

    precision: float
    recall: float
    images: int
    draws: int


def overlap(samples: Rows, real: Rows, *, k: int = K, seed: int = 0) -> Overlap:
    """Returns precision and recall of samples, at the size of the smaller set.

    Args:
        samples: (M, D) features.
        real: (N, D) features.
        k: The ball around an image reaches to its k-th neighbour of the same set.
        seed: Of the subsets of the larger set.

    Raises:
        DataError: A set has not more than k rows.

    Reference:
        Kynkaanniemi et al. 2019, "Improved precision and recall metric", equations 1 and 2.
    """
    size = min(len(samples), len(real))
    if size <= k:
        raise DataError(f"Precision and recall of {len(samples)} samples and {len(real)} images.", expected=f"> {k}")
    rng, found = np.random.default_rng(seed), []
    draws = 1 if len(samples) == len(real) else _DRAWS
    for _ in range(draws):
        one, two = (rows if len(rows) == size else rows[rng.permutation(len(rows))[:size]] for rows in (samples, real))
        found.append((among(one, two, k).mean(), among(two, one, k).mean()))
    precision, recall = np.mean(found, axis=0)
    return Overlap(float(precision), float(recall), size, draws)


def among(queries: Rows, references: Rows, k: int = K) -> Bools:
    """Returns which queries (M,) lie in the ball of any reference, which reaches to its k-th neighbour."""
    reach = radii(references, k)
    centre = references.mean(axis=0, dtype=np.float64)
    x, y = np.asarray(queries, np.float64) - centre, np.asarray(references, np.float64) - centre
    norms, inside = np.square(y).sum(axis=1), np.zeros(len(x), bool)
    for block in row_blocks(x, len(y)):
        far = squared_distances(x[block], y, norms)
        inside[block] = (far <= np.square(reach) * (1 + 1e-9)).any(axis=1)
    return inside


def radii(rows: Rows, k: int = K) -> Floats:
    """Returns the distance (N,) of each row to its k-th neighbour among the others."""
    return Neighbours(rows).nearest(rows, k, owner=np.arange(len(rows)))[0][:, -1]


@dataclass(frozen=True, eq=False)
class Strange:
    """Samples that are unlike all real images.

    Attributes:
        odd: bool (M,).
        distance: (M,), to the k-th nearest real image.
        level: Distance from which one is odd.
        real_share: Share of the real images, 0..1, that the same rule calls odd.
    """

    odd: Bools
    distance: Floats
    level: float
    real_share: float


def strange(samples: Rows, real: Rows, *, k: int = K, beyond: float = 3.0) -> Strange:
    """Finds samples that lie farther from the real images than these from each other: broken ones.

    Args:
        samples: (M, D) features.
        real: (N, D) features.
        k: Distances are those to the k-th neighbour.
        beyond: Robust standard deviations of the real images' log distances above their median, from which a sample
            is odd; median and MAD, so that an odd real image or two do not excuse broken samples.
    """
    own = np.log(np.maximum(radii(real, k), 1e-12))
    middle = float(np.median(own))
    level = float(np.exp(middle + beyond * 1.4826 * float(np.median(np.abs(own - middle)))))
    distance = Neighbours(real).nearest(samples, k)[0][:, -1]
    return Strange(distance > level, distance, level, float((own > np.log(level)).mean()))

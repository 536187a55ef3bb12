"""Did a generator learn by heart? Its samples against the images it was taught, as near as new real images come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from knowngood.errors import DataError
from knowngood.outliers.neighbours import Neighbours

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
NEAR = 0.5  # of what the nearest real images have between them: closer than that is a copy
_NEAREST = 0.05  # share of the real distances that the above is taken of


@dataclass(frozen=True, eq=False)
class Memory:
    """How near samples come to what was taught.

    Attributes:
        nearest: int64 (M,), row of the taught image that is nearest to each sample.
        distance: (M,), to it.
        real: (R,), the same distances of real images: of new ones to the taught, or else among the taught.
        level: Distance below which a sample counts as a copy.
        copy: bool (M,).
        nearer: Chance, 0..1, that a sample is nearer to a taught image than a real image is: 0.5 is as new as real
            ones, 1 is learned by heart.
    """

    nearest: Ids
    distance: Floats
    real: Floats
    level: float
    copy: Bools
    nearer: float


def memory(samples: Rows, taught: Rows, unseen: Rows | None = None) -> Memory:
    """Compares samples with the images that their maker learned from.

    Args:
        samples: (M, D) features.
        taught: (N, D) features of the images learned from.
        unseen: (R, D) features of real images of the same kind that it did not learn from; without them the taught
            images stand in for these, each against the others.

    Raises:
        DataError: There are too few images.

    Reference:
        `nearer` is the statistic of Meehan et al. 2020, "A non-parametric test to detect data-copying", over the whole
        space.
    """
    if len(samples) < 1 or len(taught) < 2:
        raise DataError(f"{len(samples)} samples and {len(taught)} taught images cannot be compared.", expected="1, 2")
    found = Neighbours(taught)
    distances, rows = found.nearest(samples, 1)
    distance, nearest = distances[:, 0], rows[:, 0]
    if unseen is not None and len(unseen):
        real = found.nearest(unseen, 1)[0][:, 0]
    else:
        real = found.nearest(taught, 1, owner=np.arange(len(taught)))[0][:, 0]
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

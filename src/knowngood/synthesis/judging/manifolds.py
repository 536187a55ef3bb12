"""Precision and recall: are samples among the real images, and are the real ones among the samples?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import DataError
from knowngood.outliers.blocks import row_blocks
from knowngood.outliers.neighbours import Neighbours

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
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
        far = np.square(x[block]).sum(axis=1)[:, None] + norms - 2 * (x[block] @ y.T)
        inside[block] = (np.maximum(far, 0) <= np.square(reach) * (1 + 1e-9)).any(axis=1)
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

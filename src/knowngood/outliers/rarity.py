"""Rare defects and wrong labels are different lists: the distance to each class tells them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import DataError
from knowngood.outliers.detectors.contract import Features, checked_features
from knowngood.outliers.neighbours import Neighbours

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

K = 5  # a kind of defect with at most this many images can be rare
AMONG_GOOD = 0.99  # share of trusted good images that are nearer to the others than what counts as far
_FENCE = 1.5  # Tukey's, on logarithms


@dataclass(frozen=True)
class Rarity:
    """Where the images lie relative to both classes; NaN where a class has too few trusted images.

    Attributes:
        good_distance: float64 (N,), distance to the k-th nearest trusted good image (itself left out).
        bad_distance: float64 (N,), the same for images labelled bad.
        far_from_good: bool (N,).
        rare: bool (N,), labelled bad, far from good, and doubted or alone among the bad.
        radius: Good distance beyond which an image is far from good.
    """

    good_distance: Floats
    bad_distance: Floats
    far_from_good: Bools
    rare: Bools
    radius: float


def find_rare(features: Features, labels: npt.ArrayLike, doubted: Bools, *, k: int = K) -> Rarity:
    """Finds rare defects.

    The rule: an image labelled **bad** is **rare** when it is far from good, and either doubted (machines taught on
    the others take it for good, because they have seen nothing like it) or alone among the bad. A doubted bad image
    that is *not* far from good lies among the good ones: its label is what is wrong. *Far from good*: the distance
    to the k-th nearest trusted good image is above that of 99 % of these images among themselves; trusted means not
    doubted, so that bad images hidden in good do not widen the radius. *Alone*: the k-th nearest other bad image is
    beyond Tukey's upper fence (Q3 + 1.5 IQR, on logarithms) of the bad images among themselves, so that on an even
    set none is alone. Images labelled good are never rare: bad hidden in good is the costly mistake, a person looks.

    Args:
        features: (N, D) finite.
        labels: (N,) 0 good, 1 bad, any other value where nobody has said.
        doubted: bool (N,), suspects of either side.
        k: Which neighbour's distance counts.

    Returns:
        Distances and verdicts in the order of the rows.

    Raises:
        DataError: The features cannot be used, or lengths differ.
    """
    rows = checked_features(features)
    label = np.asarray(labels)
    if not (label.shape == doubted.shape == (len(rows),)):
        raise DataError(f"{len(rows)} rows of features, {label.shape} labels, {doubted.shape} doubts do not pair.")
    good = _distances(rows, (label == 0) & ~doubted, k)
    bad = _distances(rows, label == 1, k)
    radius = _quantile(good[(label == 0) & ~doubted])
    far = good > radius
    with np.errstate(divide="ignore"):
        logs = np.log(bad)
    alone = logs > _fence(logs[label == 1])
    return Rarity(good, bad, far, (label == 1) & far & (doubted | alone), radius)


def _distances(rows: Features, of: Bools, k: int) -> Floats:
    members = np.flatnonzero(of)
    if len(members) <= k:
        return np.full(len(rows), np.nan)
    return Neighbours(rows[members], members).nearest(rows, k, owner=np.arange(len(rows)))[0][:, -1]


def _quantile(distances: Floats) -> float:
    return float(np.quantile(distances, AMONG_GOOD)) if len(distances) and not np.isnan(distances).any() else np.inf


def _fence(logs: Floats) -> float:
    usable = logs[np.isfinite(logs)]
    if len(usable) < 4:
        return float("inf")
    low, high = np.quantile(usable, [0.25, 0.75])
    return float(high + _FENCE * (high - low))

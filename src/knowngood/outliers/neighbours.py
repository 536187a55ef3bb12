"""Exact nearest neighbours, and what they show: rare defects and near copies with the other label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import DataError
from knowngood.outliers.detectors import Features, checked_features, row_blocks
from knowngood.scale.mapping import mapped

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
_SPARE = 3  # candidates beyond k: rounding of the float32 product must not lose a true neighbour


class Neighbours:
    """References to search in.

    Candidates come from one float32 matrix product a block; their distances are then taken again from the
    differences, so that they are exact, zero for copies, and the same in every batch.

    Args:
        references: (M, D), copied as float32.
        owner: int64 (M,), what a reference belongs to (an image, for patches); by default its row.
    """

    def __init__(self, references: Rows, owner: Ids | None = None) -> None:
        self._centre = references.mean(axis=0, dtype=np.float64).astype(np.float32)  # small norms, small rounding
        self._references = np.asarray(references, np.float32) - self._centre
        self._norms = np.square(self._references).sum(axis=1)
        self._owner = np.arange(len(references)) if owner is None else owner

    def nearest(self, queries: Rows, k: int, *, owner: Ids | None = None) -> tuple[Floats, Ids]:
        """Finds the k nearest references of each query.

        Args:
            queries: (N, D).
            k: At most M.
            owner: int64 (N,); references of the same owner are passed over.

        Returns:
            Distances (N, k) float64, rising, infinite where there is no k-th reference; references (N, k) int64.
        """
        count = len(self._references)
        wide = min(count, k + _SPARE) if k > 1 else 1  # of equally near ones either is the nearest
        distances, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        blocks = list(row_blocks(queries, max(count, wide * queries.shape[1])))
        pieces = ((queries[block], None if owner is None else owner[block]) for block in blocks)
        for block, (far, near) in zip(blocks, mapped(partial(self._of_block, k, wide), pieces), strict=True):
            distances[block], found[block] = far, near
        return distances, found

    def _of_block(self, k: int, wide: int, piece: tuple[Rows, Ids | None]) -> tuple[Floats, Ids]:
        """Returns what `nearest` returns of a bounded number of queries; `wide` are computed exactly."""
        queries, owner = piece
        rows = np.asarray(queries, np.float32) - self._centre
        far = self._norms - 2 * (rows @ self._references.T)  # ranked alike without the query's own norm
        if owner is not None:
            far[owner[:, None] == self._owner] = np.inf
        near = _candidates(far, wide)
        gap = self._references[near]
        gap -= rows[:, None]
        exact = np.sqrt(np.einsum("bkd,bkd->bk", gap, gap), dtype=np.float64)
        exact[np.isinf(np.take_along_axis(far, near, axis=1))] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(exact, order, axis=1), np.take_along_axis(near, order, axis=1)


def _candidates(far: Rows, wide: int) -> Ids:
    if wide == 1:
        return np.asarray(far.argmin(axis=1), np.int64)[:, None]
    if wide == far.shape[1]:
        return np.broadcast_to(np.arange(wide), far.shape)
    return np.argpartition(far, wide - 1, axis=1)[:, :wide]


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
        rare: bool (N,), labelled bad, far from good, and a suspect or alone among the bad.
        radius: Good distance beyond which an image is far from good.
    """

    good_distance: Floats
    bad_distance: Floats
    far_from_good: Bools
    rare: Bools
    radius: float


def find_rare(features: Features, labels: npt.ArrayLike, suspects: Bools, *, k: int = K) -> Rarity:
    """Finds rare defects.

    The rule: an image labelled **bad** is **rare** when it is far from good, and either a suspect (classifiers fitted
    on the others score it as good, as they have seen nothing like it) or alone among the bad. A suspected bad image
    that is *not* far from good lies among the good ones: its label is what is wrong. *Far from good*: the distance
    to the k-th nearest trusted good image is above that of 99 % of these images among themselves; trusted means no
    suspect, so that bad images hidden in good do not widen the radius. *Alone*: the k-th nearest other bad image is
    beyond Tukey's upper fence (Q3 + 1.5 IQR, on logarithms) of the bad images among themselves, so that on an even
    set none is alone. Images labelled good are never rare: bad hidden in good is the costly mistake.

    Args:
        features: (N, D) finite.
        labels: (N,) 0 good, 1 bad, any other value for no label.
        suspects: bool (N,), suspects of either side.
        k: Which neighbour's distance counts.

    Returns:
        Distances and verdicts in the order of the rows.

    Raises:
        DataError: The features cannot be used, or lengths differ.
    """
    rows = checked_features(features)
    label = np.asarray(labels)
    if not (label.shape == suspects.shape == (len(rows),)):
        raise DataError(f"{len(rows)} rows of features, {label.shape} labels, {suspects.shape} suspects do not pair.")
    good = _distances(rows, (label == 0) & ~suspects, k)
    bad = _distances(rows, label == 1, k)
    radius = _quantile(good[(label == 0) & ~suspects])
    far = good > radius
    with np.errstate(divide="ignore"):
        logs = np.log(bad)
    alone = logs > _fence(logs[label == 1])
    return Rarity(good, bad, far, (label == 1) & far & (suspects | alone), radius)


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


_NOBODY = -1


@dataclass(frozen=True)
class Copies:
    """Which images are near-duplicates, and which of those have different labels.

    Attributes:
        first: int64 (N,), row of the first image of the same cluster; -1 for images alone or first themselves.
        partner: int64 (N,), row of a near-duplicate with the other label; -1 where there is none.
        pairs: int64 (M, 2), rows (good, bad) of near-duplicates with different labels, each once; every image of a
            cluster with both labels is in at least one pair.
    """

    first: Ids
    partner: Ids
    pairs: Ids


def find_copies(clusters: Ids, labels: npt.ArrayLike, features: npt.NDArray[Any] | None = None) -> Copies:
    """Finds near-duplicates and those with different labels (conflicting duplicates).

    Args:
        clusters: int64 (N,), equal numbers are near-duplicates (`data.duplicates.near_clusters`).
        labels: (N,) 0 good, 1 bad; any other value for no label.
        features: (N, D); with them the partner is the nearest image of the other label, else the first.

    Returns:
        Copies in the order of the rows.

    Raises:
        DataError: Lengths differ.
    """
    ids, label = np.asarray(clusters), np.asarray(labels)
    if ids.ndim != 1 or ids.shape != label.shape or (features is not None and len(features) != len(ids)):
        raise DataError(f"{ids.shape} clusters and {label.shape} labels do not pair.", expected="(N,) and (N,)")
    first, partner = (np.full(len(ids), _NOBODY, np.int64) for _ in range(2))
    for rows in _groups(ids):
        first[rows[1:]] = rows[0]
        good, bad = rows[label[rows] == 0], rows[label[rows] == 1]
        if len(good) and len(bad):
            partner[good], partner[bad] = _nearest(good, bad, features), _nearest(bad, good, features)
    with_one = np.flatnonzero(partner >= 0)
    ordered = np.where((label[with_one] == 0)[:, None], *_both_ways(with_one, partner[with_one]))
    return Copies(first, partner, np.unique(ordered, axis=0).reshape(-1, 2))


def _groups(ids: Ids) -> list[Ids]:
    """Returns the rows of each cluster with more than one image."""
    order = np.argsort(ids, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)
    return [rows for rows in parts if len(rows) > 1]


def _nearest(rows: Ids, others: Ids, features: npt.NDArray[Any] | None) -> Ids:
    if features is None or len(others) == 1:
        return np.full(len(rows), others[0])
    gaps = [np.linalg.norm(features[others].astype(np.float64) - features[row], axis=1) for row in rows]
    closest: Ids = others[np.argmin(gaps, axis=1)]
    return closest


def _both_ways(left: Ids, right: Ids) -> tuple[Ids, Ids]:
    return np.stack([left, right], axis=1), np.stack([right, left], axis=1)

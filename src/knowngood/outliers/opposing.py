"""Copies of one photograph that carry opposing labels: one of the labels is wrong, without any model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import DataError

Ids: TypeAlias = npt.NDArray[np.int64]
_NOBODY = -1


@dataclass(frozen=True)
class Copies:
    """Which images are near-duplicates, and which of those disagree.

    Attributes:
        first: int64 (N,), row of the first image of the same cluster; -1 for images alone or first themselves.
        partner: int64 (N,), row of a near-duplicate with the opposing label; -1 where there is none.
        pairs: int64 (M, 2), rows (good, bad) of near-duplicates with opposing labels, each once; every image of a
            cluster with both labels is in at least one pair.
    """

    first: Ids
    partner: Ids
    pairs: Ids


def find_copies(clusters: Ids, labels: npt.ArrayLike, features: npt.NDArray[Any] | None = None) -> Copies:
    """Lists near-duplicates and those with opposing labels.

    Args:
        clusters: int64 (N,), equal numbers are near-duplicates (`data.duplicates.near_clusters`).
        labels: (N,) 0 good, 1 bad; any other value where nobody has said.
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

"""Exact nearest neighbours by blocked matrix products."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.outliers.blocks import row_blocks
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
        """Returns what `nearest` returns of a bounded number of queries; `wide` are looked at closely."""
        queries, owner = piece
        rows = np.asarray(queries, np.float32) - self._centre
        far = self._norms - 2 * (rows @ self._references.T)  # squared distance less the query's own norm
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

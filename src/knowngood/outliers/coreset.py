"""A few rows that cover many: greedy k-centres in a random projection, from a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.progress import track

Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Ids: TypeAlias = npt.NDArray[np.int64]
DIMENSIONS = 128  # of the projection; distances keep their order well enough to choose by (Johnson-Lindenstrauss)


def reservoir(stream: Iterable[Rows], size: int, random: np.random.Generator) -> tuple[Rows, Ids, int]:
    """Draws rows from a stream of unknown length, each with the same chance.

    Args:
        stream: Blocks (B, P, D) of B images with P rows each.
        size: Most rows kept.
        random: Draws.

    Returns:
        Rows (R, D) float32, the image that each came from (R,), and how many rows passed by. Memory is `size` rows
        and one block.
    """
    kept: Rows | None = None
    keys, owners = np.empty(0), np.empty(0, np.int64)
    images = total = 0
    for block in stream:
        flat = block.reshape(-1, block.shape[-1])
        total += len(flat)
        owner = images + np.repeat(np.arange(len(block)), block.shape[1])
        images += len(block)
        drawn = random.random(len(flat))
        if kept is not None and len(kept) == size:
            mask = drawn < keys.max()
            flat, owner, drawn = flat[mask], owner[mask], drawn[mask]
        flat = flat.astype(np.float32)  # also copies: a stream may use its block again
        rows = flat if kept is None else np.concatenate([kept, flat])
        keys, owners = np.concatenate([keys, drawn]), np.concatenate([owners, owner])
        if len(rows) > size:
            best = np.sort(np.argpartition(keys, size)[:size])
            rows, keys, owners = rows[best], keys[best], owners[best]
        kept = rows
    return (np.empty((0, 0), np.float32) if kept is None else kept), owners, total


def k_centres(rows: Rows, count: int, random: np.random.Generator) -> Ids:
    """Chooses rows so that every row has a chosen one near by.

    Args:
        rows: (N, D).
        count: How many, at most N.
        random: Draws the projection.

    Returns:
        int64 (count,), in the order of choice: first the row farthest from the mean, then always the row that is
        farthest from all chosen ones.

    Reference:
        Roth et al. 2022, algorithm 1; Gonzalez 1985.
    """
    if count >= len(rows):
        return np.arange(len(rows))
    points = np.asarray(rows, np.float32) - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    if points.shape[1] > DIMENSIONS:
        spread = random.standard_normal((points.shape[1], DIMENSIONS), np.float32) / np.sqrt(np.float32(DIMENSIONS))
        points = points @ spread
    norms = np.square(points).sum(axis=1)
    chosen = np.empty(count, np.int64)
    nearest = norms.copy()
    for step in track(range(count), "coreset"):
        chosen[step] = int(np.argmax(nearest))
        centre = points[chosen[step]]
        squared = norms + norms[chosen[step]] - 2 * (points @ centre)
        nearest = squared if step == 0 else np.minimum(nearest, squared)
        nearest[chosen[step]] = -np.inf
    return chosen

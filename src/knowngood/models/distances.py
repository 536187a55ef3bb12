"""Squared Euclidean distances of rows: the one expression that kernels, memories and neighbours are made of."""

from __future__ import annotations

from typing import Any, TypeVar

A = TypeVar("A")  # numpy.ndarray or torch.Tensor


def squared_distances(rows: A, others: A, norms: A | None = None) -> A:
    """Returns the squared distances (N, M) of rows (N, D) from others (M, D), at least 0, as one matrix product.

    Works on arrays of numpy and on tensors of torch alike, and imports neither. Centred rows lose fewer digits.

    Args:
        rows: (N, D) floating point.
        others: (M, D) of the same type.
        norms: (M,) squared lengths of `others`, where the caller has them already.
    """
    x: Any = rows
    y: Any = others
    known: Any = (y * y).sum(1) if norms is None else norms
    squared: A = ((x * x).sum(1)[:, None] + known - 2 * x @ y.T).clip(min=0)
    return squared

"""Large arrays a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt

VALUES = 1 << 23  # of one block: 64 MB as float64


def row_blocks(rows: npt.NDArray[Any], width: int | None = None) -> Iterator[slice]:
    """Yields slices that cover the rows, each of at most `VALUES` values (one row at least).

    Args:
        rows: (N, ...).
        width: Values that a row costs while it is worked on; by default its own size.
    """
    cost = max(1, width if width is not None else rows[:1].size)
    step = max(1, VALUES // cost)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)

"""The photographs whose features are wanted, listed in parts; what is a copy of an earlier one is marked."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from knowngood.data.records import Records

FIRST = "first"  # column: whether no photograph before it has the same bytes


def listed(records: Records, part_size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yields the list of each part, and how many different photographs it has that no part before it has.

    Parts are cut by these, not by rows, so that the batches are those of one long run, copies or not.

    Args:
        records: (N rows) in the order of the result.
        part_size: Different photographs a part.
    """
    digest = pl.col("sha256")
    first = digest.is_first_distinct() | digest.is_null()
    frame = records.frame.select("image", "path", "sha256", first.alias(FIRST))
    part = (frame[FIRST].cum_sum().cast(pl.Int64) - 1) // part_size
    for number in range(int(part[-1]) + 1 if len(part) else 0):
        some = frame.filter(part == number)
        yield some, int(some[FIRST].sum())

"""A lot as a grid, one cell a unit at its place on the strip or tray, where names tell it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from knowngood.review.store.inspections import Row

WIDE, DEEP = 200, 400  # columns and rows of a grid at most: beyond it a number is no place
_PLACES = (
    # r3c12, row_03-col_12, R03 C12
    re.compile(r"(?<![a-z])r(?:ow)?[ _-]?(?P<row>\d{1,4})[ _-]?c(?:ol(?:umn)?)?[ _-]?(?P<column>\d{1,4})(?!\d)", re.I),
    # x12y3, x-12_y-3
    re.compile(r"(?<![a-z])x[ _-]?(?P<column>\d{1,4})[ _-]?y[ _-]?(?P<row>\d{1,4})(?!\d)", re.I),
)


@dataclass(frozen=True)
class LotMap:
    """A lot's units where they lay.

    Attributes:
        cells: Rows of the grid from the top, each from the left; None where there is no unit.
        top: Number of the first row, as names count.
        left: Number of the first column.
    """

    cells: list[list[Row | None]]
    top: int
    left: int


def place_in(name: str) -> tuple[int, int] | None:
    """Returns row and column that a unit's name tells, or None: r3c12, row03_col12, x12y3; the last one counts."""
    for pattern in _PLACES:
        found = list(pattern.finditer(name))
        if found:
            return int(found[-1]["row"]), int(found[-1]["column"])
    return None


def lot_map(rows: Sequence[Row]) -> LotMap | None:
    """Returns the map of a lot, or None where names tell no places.

    Names count only where all of them tell a place and no two the same one: half a map would mislead.

    Args:
        rows: Inspections with unit.
    """
    places = [place_in(row["unit"]) for row in rows]
    told = [place for place in places if place is not None]
    if not rows or len(told) < len(rows) or len(set(told)) < len(told):
        return None
    top, left = min(row for row, _ in told), min(column for _, column in told)
    deep, wide = max(row for row, _ in told) - top + 1, max(column for _, column in told) - left + 1
    if deep > DEEP or wide > WIDE:
        return None
    cells: list[list[Row | None]] = [[None] * wide for _ in range(deep)]
    for one, (row, column) in zip(rows, told, strict=True):
        cells[row - top][column - left] = one
    return LotMap(cells, top, left)

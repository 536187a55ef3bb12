"""A lot as a grid: names that tell a place, and names that only seem to."""

from __future__ import annotations

from typing import Any

import pytest

from knowngood.review.lots import lot_map, place_in


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("A17_r3c12", (3, 12)),
        ("tray2/row_03-col_12", (3, 12)),
        ("R03 C12.front", (3, 12)),
        ("x12y3", (3, 12)),
        ("strip_x-12_y-3_top", (3, 12)),
        ("r1c1/r3c12", (3, 12)),
        ("part_0312", None),
        ("or3c12", None),
        ("r3c123456", None),
        ("max2y4", None),
    ],
)
def test_places_in_names(name: str, place: tuple[int, int] | None) -> None:
    assert place_in(name) == place


def units(*names: str) -> list[dict[str, Any]]:
    return [{"unit": name} for name in names]


def test_units_lie_where_their_names_say() -> None:
    found = lot_map(units("r2c5", "r4c7", "r2c6"))
    assert found is not None
    assert (found.top, found.left) == (2, 5)
    names = [[one and one["unit"] for one in line] for line in found.cells]
    assert names == [["r2c5", "r2c6", None], [None, None, None], [None, None, "r4c7"]]


@pytest.mark.parametrize(
    "names", [(), ("r1c1", "part_2"), ("a_r1c1", "b_r1c1"), ("r1c1", "r1c9999"), ("r1c1", "r9999c1")]
)
def test_half_a_map_is_none(names: tuple[str, ...]) -> None:
    assert lot_map(units(*names)) is None

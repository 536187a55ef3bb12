"""Regions of a map: connected, half-open, above the level, and one at least where it is needed."""

from __future__ import annotations

import numpy as np

from knowngood.recipe.maps import at_size, regions_of


def two_spots() -> np.ndarray:
    values = np.ones((40, 60), np.float32)
    values[5:9, 10:13] = 4
    values[30:31, 50:60] = 6
    return values


def test_boxes_are_half_open_and_the_highest_peak_comes_first() -> None:
    found = regions_of(two_spots(), 2.0)
    assert [r.box for r in found] == [(50, 30, 60, 31), (10, 5, 13, 9)]
    assert [r.peak for r in found] == [6, 4]
    assert [r.area for r in found] == [10, 12]


def test_corners_touch() -> None:
    values = np.zeros((6, 6), np.float32)
    values[1, 1] = values[2, 2] = 1
    assert [r.box for r in regions_of(values, 0.5)] == [(1, 1, 3, 3)]


def test_nothing_above_the_level_gives_none_or_the_peak() -> None:
    assert regions_of(two_spots(), 10) == ()
    assert [r.box for r in regions_of(two_spots(), 10, needed=True)] == [(50, 30, 60, 31)]
    assert regions_of(two_spots(), 6.0) == ()  # above, not at


def test_a_map_is_stretched_without_changing_its_values() -> None:
    assert at_size(np.full((4, 8), 2.5, np.float32), 33, 65).tolist() == np.full((33, 65), 2.5).tolist()
    values = two_spots()
    assert at_size(values, 40, 60) is values

"""Regions of a map: connected, half-open, above the level, and one at least where it is needed."""

from __future__ import annotations

import numpy as np

from knowngood.recipe.maps import at_size, marked


def two_spots() -> np.ndarray:
    values = np.ones((40, 60), np.float32)
    values[5:9, 10:13] = 4
    values[30:31, 50:60] = 6
    return values


def boxes(**how: object) -> list[tuple[int, ...]]:
    return [r.box for r in marked(two_spots(), how["level"], 0.4, rejected=bool(how.get("rejected")))]  # type: ignore[arg-type]


def test_a_classifiers_regions_lie_above_a_share_of_the_maximum() -> None:
    assert boxes(level=None) == [(10, 5, 13, 9), (50, 30, 60, 31)]
    assert [r.area for r in marked(two_spots(), None, 0.9, rejected=False)] == [10]


def test_with_a_level_nothing_above_it_gives_none_or_the_peak() -> None:
    assert boxes(level=2.0) == [(10, 5, 13, 9), (50, 30, 60, 31)]
    assert boxes(level=10) == []
    assert boxes(level=10, rejected=True) == [(50, 30, 60, 31)]
    assert boxes(level=6.0) == []  # above, not at


def test_a_map_is_stretched_without_changing_its_values() -> None:
    assert at_size(np.full((4, 8), 2.5, np.float32), 33, 65).tolist() == np.full((33, 65), 2.5).tolist()
    values = two_spots()
    assert at_size(values, 40, 60) is values

"""Regions of maps, against maps drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.cam.regions import regions_of
from knowngood.errors import ConfigError


def test_the_largest_region_comes_first_with_its_box_area_and_mean() -> None:
    heat = np.zeros((20, 30), np.float32)
    heat[2:4, 3:5] = 10  # hotter, smaller
    heat[8:14, 10:20] = 5
    first, second = regions_of(heat)
    assert first.box == (10, 8, 20, 14)
    assert (first.area, first.mean, first.peak) == (60, 5, 5)
    assert first.mask.sum() == 60
    assert first.mask[8:14, 10:20].all()
    assert second.box == (3, 2, 5, 4)


def test_only_what_is_above_the_fraction_counts() -> None:
    heat = np.zeros((10, 10), np.float32)
    heat[1, 1], heat[5, 5], heat[8, 8] = 1.0, 0.41, 0.4
    assert [r.box for r in regions_of(heat)] == [(1, 1, 2, 2), (5, 5, 6, 6)]
    assert len(regions_of(heat, fraction=0.3)) == 3
    assert len(regions_of(heat, fraction=0.3, most=2)) == 2


def test_corners_connect() -> None:
    heat = np.eye(6, dtype=np.float32)
    (only,) = regions_of(heat)
    assert only.box == (0, 0, 6, 6)
    assert only.area == 6


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_map_without_positive_values_has_no_region(value: float) -> None:
    assert regions_of(np.full((5, 7), value, np.float32)) == ()


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        regions_of(np.ones((3, 3)), fraction=fraction)

"""Overlays: colour only where it is hot, one scale for several, boxes where they belong, at odd sizes too."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.cam.regions import regions_of
from knowngood.recipe.maps import HeatMap
from knowngood.report.pictures import Scale, beside, legend, pair_of, scale_of, under, words


@pytest.mark.parametrize("size", [(275, 267), (103, 403), (64, 64)])
@pytest.mark.parametrize("colour", [False, True])
def test_colour_lies_where_the_map_is_hot(size: tuple[int, int], colour: bool) -> None:
    values = np.zeros(size, np.float32)
    values[20:30, 40:60] = 2
    photograph = np.full((*size, 3) if colour else size, 90, np.uint8)
    over = scale_of([values]).over(photograph, values)
    coloured = (over != 90).any(axis=2)
    np.testing.assert_array_equal(coloured, values > 0)
    clean, boxes = pair_of(photograph, HeatMap("x", 1.0, "reject", values, regions_of(values)), Scale(0, 2), 1.0)
    assert (clean == 90).all()
    white = np.argwhere((boxes == 255).all(axis=2))
    assert abs(white.min(0) - (20, 40)).max() <= 2
    assert abs(white.max(0) - (29, 59)).max() <= 2


def test_one_scale_shows_which_picture_is_hotter() -> None:
    weak, strong = np.full((4, 4), 0.5, np.float32), np.full((4, 4), 2.0, np.float32)
    scale = scale_of([weak, strong])
    assert (scale.low, scale.high) == (0.0, 2.0)
    assert scale.share(weak).max() == pytest.approx(0.25)
    assert scale_of([weak]).share(weak).max() == 1
    assert not scale.capped


def test_one_map_beyond_all_others_does_not_leave_them_without_colour() -> None:
    usual = [np.full((4, 4), value, np.float32) for value in (0.9, 1.0, 1.1, -5)]
    scale = scale_of([*usual, np.full((4, 4), 900, np.float32)])
    assert scale.high == pytest.approx(3 * 1.05)
    assert scale.capped
    assert scale.ends == ("0", "3.15 and more")


def test_nothing_positive_is_the_photograph_alone() -> None:
    values = np.full((5, 6), -3, np.float32)
    photograph = np.arange(30, dtype=np.uint8).reshape(5, 6)
    over = scale_of([values]).over(photograph, values)
    np.testing.assert_array_equal(over[..., 0], photograph)
    np.testing.assert_array_equal(over[..., 2], photograph)


def test_a_level_bounds_the_scale() -> None:
    values = np.linspace(1, 1000, 400, dtype=np.float32).reshape(20, 20)
    scale = scale_of([values], level=100)
    assert scale.low == pytest.approx(np.quantile(values, 0.05))
    assert scale.high == pytest.approx(scale.low + 3 * (100 - scale.low))


def test_words_stay_inside_their_width() -> None:
    for text in ("a", "many words that have to be broken " * 3, "x" * 500, ""):
        assert words(text, 120).shape[1] == 120
    assert len(words("many words " * 9, 120)) > len(words("many", 120))
    assert (words("x", 50) < 128).any()


def test_pictures_are_joined_without_losing_any() -> None:
    one, two = np.full((10, 20, 3), 10, np.uint8), np.full((30, 5, 3), 20, np.uint8)
    for joined in (beside([one, two]), under([one, two])):
        assert (joined == 10).all(axis=2).sum() == 200
        assert (joined == 20).all(axis=2).sum() == 150
    assert beside([one, two]).shape == (30, 31, 3)
    assert legend(Scale(0, 3.25), 200, "said").shape[1] == 200

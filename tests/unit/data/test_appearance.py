"""Descriptors of photographs: of one length, the same whatever the size and the number of equal channels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from knowngood.data.appearance import BY_CELL, CELLS, LAYOUT, describe, jittered


@pytest.fixture(scope="module")
def photograph(photograph):
    return np.asarray(photograph(np.random.default_rng(0), False, size=160))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 300), (96, 96)])
def test_a_photograph_of_any_size_has_finite_numbers(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    made = describe(pixels)
    assert made.shape == (386,)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_blank_one_too(level):
    assert np.isfinite(describe(np.full((3, 50, 60), level, np.uint8))).all()


def test_grey_in_three_channels_is_grey_with_nothing_of_colour(photograph):
    grey, three = describe(photograph[None]), describe(np.stack([photograph] * 3))
    np.testing.assert_array_equal(three[:386], grey)
    assert three[386:].tolist() == pytest.approx([np.log(0.1)] * 4)


def test_colour_counts(photograph):
    colour = np.stack([photograph, photograph // 2, photograph // 3])
    assert (describe(colour)[386:] > 2).all()


def test_a_spot_changes_the_numbers_of_its_cell_only(photograph):
    spot = photograph.copy()
    spot[4:12, 4:12] = 255
    difference = np.abs(describe(spot[None]) - describe(photograph[None]))
    cells = difference[LAYOUT : LAYOUT + BY_CELL].reshape(CELLS, -1)
    assert cells[0].max() > 0.5
    assert cells[1:].max() == 0


def test_layout_knows_where_edges_are_and_texture_how_strong(photograph):
    turned, blurred = photograph[::-1].copy(), cv2.GaussianBlur(photograph, (0, 0), 2)
    turned[:40] = 255 - turned[:40]
    plain = describe(photograph[None])
    difference = np.abs(describe(blurred[None]) - plain)
    assert difference[LAYOUT:].mean() > 3 * difference[:LAYOUT].mean()
    assert np.abs(describe(turned[None]) - plain)[:LAYOUT].max() > 0.1


def test_a_changed_copy_is_nearly_the_same_photograph(photograph):
    random = np.random.default_rng(1)
    for _ in range(20):
        copy = jittered(np.stack([photograph] * 3), random)
        assert copy.shape == (3, 160, 160)
        assert copy.dtype == np.uint8
        light = copy[:, 40:120, 40:120].mean() / photograph[40:120, 40:120].mean()
        assert 0.75 < light < 1.3
        assert np.corrcoef(copy[0].ravel(), photograph.ravel())[0, 1] > 0.5

"""Masks and boxes go where their defect goes: against OpenCV's warp, and against the picture itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from knowngood.data.augmentation import draw, geometry, policy_named
from knowngood.data.config import AugmentConfig
from knowngood.data.copies import copy_of, defect_points, moved_boxes, moved_mask, moved_points, share_inside

SIZE = (60, 90)


def matrix_of(names: str, seed: int, **ranges: float) -> torch.Tensor:
    policy = policy_named(names, ranges)
    found = geometry(policy, draw(policy, 1, torch.Generator().manual_seed(seed)), SIZE[1] / SIZE[0])
    assert found is not None
    return found[0]


def pixel_matrix(matrix: torch.Tensor) -> np.ndarray:
    """The same geometry from output to input, in OpenCV's pixel centres."""
    height, width = SIZE
    to_unit = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    return np.linalg.inv(to_unit) @ matrix.numpy().astype(float) @ to_unit


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_moved_as_opencv_moves_them(seed):
    mask = np.zeros(SIZE, bool)
    mask[20:35, 30:60] = True
    matrix = matrix_of("rotate+shift+zoom+flip", seed, rotate=25, shift=0.1, zoom=1.3)
    expected = cv2.warpAffine(
        mask.astype(np.uint8), pixel_matrix(matrix)[:2], SIZE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    ours = moved_mask(mask, matrix, mirrored=False)
    overlap = (ours & (expected > 0)).sum() / (ours | (expected > 0)).sum()
    assert overlap > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_box_mask_and_picture_agree(seed):
    pixels = np.full(SIZE, 90, np.uint8)
    pixels[22:30, 40:52] = 250
    mask = pixels == 250
    config = AugmentConfig(augment="rotate+shift+flip", rotate=30, shift=0.1, seed=seed)
    made = copy_of(pixels, mask, [[40, 22, 52, 30]], policy_named(config.augment, config.ranges()), config, 4)
    seen = made.pixels > 170
    assert (seen & made.mask).sum() / (seen | made.mask).sum() > 0.85
    y, x = np.nonzero(seen)
    assert np.abs(np.array(made.boxes[0]) - [x.min(), y.min(), x.max() + 1, y.max() + 1]).max() <= 1
    assert made.inside == 1.0


def test_a_shift_by_whole_pixels_is_exact():
    matrix = torch.eye(3)
    matrix[0, 2], matrix[1, 2] = -2 * 9 / 90, 2 * 6 / 60  # nine pixels right, six up
    mask = np.zeros(SIZE, bool)
    mask[10:20, 30:40] = True
    moved = moved_mask(mask, matrix)
    assert np.array_equal(moved, np.roll(mask, (-6, 9), axis=(0, 1)))
    assert moved_boxes([[30, 10, 40, 20]], mask, matrix, SIZE) == [[39, 4, 49, 14]]
    assert moved_boxes([[30, 10, 40, 20]], None, matrix, SIZE) == [[39, 4, 49, 14]]
    np.testing.assert_allclose(moved_points(np.array([[30.0, 10.0]]), matrix, SIZE), [[39, 4]], atol=1e-6)


def test_a_box_is_clipped_and_one_that_left_is_gone():
    matrix = torch.eye(3)
    matrix[0, 2] = -2 * 0.5  # half of the width to the right
    boxes = [[0, 10, 20, 20], [40, 10, 60, 20], [70, 0, 90, 5]]
    assert moved_boxes(boxes, None, matrix, SIZE) == [[45, 10, 65, 20], [85, 10, 90, 20]]
    points = defect_points(None, boxes)
    assert share_inside(points[:1], matrix, SIZE) == 1
    assert share_inside(points[:2], matrix, SIZE) == pytest.approx(0.25, abs=0.07)
    assert share_inside(points, matrix, SIZE) == 0


def test_each_box_follows_its_own_part_of_the_mask():
    mask = np.zeros(SIZE, bool)
    mask[5:9, 10:14] = mask[40:44, 60:66] = True
    matrix = torch.eye(3)
    matrix[0, 2] = -2 * 4 / 90
    boxes = [[8, 3, 16, 11], [60, 40, 66, 44]]
    assert moved_boxes(boxes, mask, matrix, SIZE) == [[14, 5, 18, 9], [64, 40, 70, 44]]


def test_a_defect_near_the_edge_is_drawn_again_until_it_stays():
    pixels, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, bool)
    mask[:, 86:90] = True
    config = AugmentConfig(augment="shift", shift=0.3, inside=0.95)
    shares = [copy_of(pixels, mask, [], policy_named("shift", {"shift": 0.3}), config, k).inside for k in range(40)]
    assert min(shares) >= 0.7  # a vertical shift costs rows whatever is drawn; the best of 50 draws is taken
    narrow = np.zeros(SIZE, bool)
    narrow[25:35, 86:90] = True
    kept = [copy_of(pixels, narrow, [], policy_named("shift", {"shift": 0.3}), config, k) for k in range(40)]
    assert all(copy.inside >= 0.95 and copy.mask.any() for copy in kept)


def test_a_defect_of_one_pixel_survives():
    mask = np.zeros(SIZE, bool)
    mask[30, 45] = True
    for seed in range(20):
        assert moved_mask(mask, matrix_of("zoom+rotate+shift", seed, zoom=2.5, rotate=40)).any()

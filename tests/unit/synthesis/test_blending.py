"""Pieces are laid in without a seam, wherever they lie and whatever their size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from knowngood.synthesis.transplant import blended, grown, ring_of


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    host = cv2.GaussianBlur(rng.integers(60, 180, (48, 64), dtype=np.uint8), (0, 0), 6)
    inside = np.zeros((48, 64), bool)
    inside[15:30, 20:44] = True
    return host, inside


@pytest.mark.parametrize("how", ["poisson", "feather"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_brighter_copy_of_the_host_changes_nothing(scene, how, colour):
    host, inside = scene
    host = np.stack([host, host // 2, 255 - host], axis=2) if colour else host
    piece = (host.astype(int) + (20 if not colour else np.array([20, -15, 8]))).clip(0, 255).astype(np.uint8)
    made = blended(host, piece, inside, how)
    assert made.shape == host.shape
    assert np.abs(made.astype(int) - host).max() <= 1


@pytest.mark.parametrize("how", ["poisson", "feather"])
def test_the_defect_is_there_and_all_else_is_the_host(scene, how):
    host, inside = scene
    piece = host.copy()
    piece[20:25, 28:36] = 10
    made = blended(host, piece, inside, how)
    assert np.array_equal(made[~inside], host[~inside])
    assert made[20:25, 28:36].mean() < 20
    assert np.abs(made.astype(int) - piece)[ring_of(inside)].max() == 0


def test_poisson_keeps_the_differences_of_the_piece(scene):
    host, inside = scene
    piece = (host[::-1, ::-1] // 2 + 40).astype(np.uint8)
    made = blended(host, piece, inside, "poisson").astype(float)
    deep = ~grown(~inside, 1)
    laplacians = [cv2.Laplacian(one.astype(np.float64), cv2.CV_64F)[deep] for one in (made, piece)]
    assert np.abs(laplacians[0] - laplacians[1]).max() <= 4  # eight roundings of half a grey level


def test_it_is_what_opencv_does_where_opencv_can(scene):
    host, inside = scene
    piece = (host[::-1, ::-1] // 2 + 40).astype(np.uint8)
    colour = [cv2.cvtColor(one, cv2.COLOR_GRAY2BGR) for one in (piece, host)]
    theirs = cv2.seamlessClone(*colour, inside.astype(np.uint8) * 255, (31, 22), cv2.NORMAL_CLONE)[..., 0]
    ours = blended(host, piece, inside, "poisson")
    assert np.abs(theirs.astype(int) - ours)[inside].mean() < 3


@pytest.mark.parametrize(
    "where",
    [(slice(0, 5), slice(0, 6)), (slice(47, 48), slice(63, 64)), (slice(20, 21), slice(5, 6)), (slice(0, 48), 0)],
)
@pytest.mark.parametrize("how", ["poisson", "feather"])
def test_borders_and_single_pixels(scene, where, how):
    host, _ = scene
    inside = np.zeros_like(host, bool)
    inside[where] = True
    made = blended(host, host // 3, inside, how)
    assert np.array_equal(made[~inside], host[~inside])
    assert np.abs(made.astype(int) - host)[inside].max() < 60  # its brightness is that of the surroundings


@pytest.mark.parametrize("how", ["poisson", "feather"])
def test_the_whole_picture_and_nothing(scene, how):
    host, _ = scene
    everything = blended(host, (host // 2).astype(np.uint8), np.ones_like(host, bool), how)
    assert abs(float(everything.mean()) - float(host.mean())) < 6
    assert np.array_equal(blended(host, host // 2, np.zeros_like(host, bool), how), host)


def test_thin_defects_are_not_faded_away(scene):
    host, _ = scene
    inside, piece = np.zeros_like(host, bool), host.copy()
    inside[10:38, 30] = True
    piece[10:38, 30] = 250
    made = blended(host, piece, grown(inside, 3), "feather")
    assert made[12:36, 30].min() > 200

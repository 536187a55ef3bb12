"""The heads of one-class recipes against the papers' equations in plain numpy, and against the detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from knowngood.models.heads import NEAREST, SMOOTHING, STRANGEST, NearestHead, PatchHead, patch_maps, smooth_maps
from knowngood.outliers.neighbour_detectors import NearestNeighbours
from knowngood.outliers.patchcore import PatchCore


def patches(count: int, places: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, places, 10)).astype(np.float32)


def as_maps(rows: np.ndarray, height: int) -> torch.Tensor:
    """(N, P, D) to (N, D, h, w)."""
    count, places, width = rows.shape
    return torch.from_numpy(rows.transpose(0, 2, 1).reshape(count, width, height, places // height).copy())


def head_of(memory: np.ndarray) -> PatchHead:
    head = PatchHead(memory.shape[1], len(memory))
    head.remember(torch.from_numpy(memory))
    return head


def by_hand(image: np.ndarray, memory: np.ndarray) -> tuple[float, np.ndarray]:
    """Equation 5 of Roth et al. 2022 for every patch of an image (P, D), and the mean of the strangest of them."""
    nearest = np.array([min(np.sqrt(((p - m) ** 2).sum()) for m in memory) for p in image.astype(float)])
    return float(np.sort(nearest)[-math.ceil(STRANGEST * len(image)) :].mean()), nearest


@pytest.mark.parametrize("places", [12, 150, 201])
def test_scores_and_maps_are_those_of_the_equations(places: int) -> None:
    memory, new = patches(8)[:, :5].reshape(-1, 10), patches(4, places, seed=1)
    head = head_of(memory)
    raw_scores, distances = head(as_maps(new, 3)), head.distances(as_maps(new, 3))
    for row, image in enumerate(new):
        score, near = by_hand(image, memory)
        assert float(raw_scores[row]) == pytest.approx(score, rel=1e-5)
        np.testing.assert_allclose(distances[row].numpy().ravel(), near, rtol=1e-5)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_the_head_scores_as_the_detector(share: float) -> None:
    """With 1.0 there are more remembered patches than are compared at a time."""
    detector = PatchCore(share=share, strangest=STRANGEST).fit(patches(100))
    assert (len(detector.memory_) > 1024) == (share == 1.0)
    new = patches(20, 240, seed=2)
    head = head_of(detector.memory_)
    np.testing.assert_allclose(head(as_maps(new, 4)).numpy(), detector.score(new), rtol=1e-4)
    near = head.distances(as_maps(new, 4)).numpy().reshape(20, -1)
    np.testing.assert_allclose(near, detector.patch_scores(new), rtol=1e-4)


def test_the_nearest_head_scores_as_the_detector() -> None:
    rows, new = patches(50, 1)[:, 0], patches(20, 1, seed=3)[:, 0]
    head = NearestHead(10, 50)
    head.remember(torch.from_numpy(rows))
    np.testing.assert_allclose(
        head(torch.from_numpy(new)).numpy(), NearestNeighbours(k=NEAREST).fit(rows).score(new), rtol=1e-5
    )


def test_copies_and_few_remembered_patches_are_no_trouble() -> None:
    one = patches(1, 1)[0]
    assert head_of(one)(as_maps(np.repeat(one[None], 12, axis=1), 3)).abs().max() < 1e-3
    same = np.repeat(one, 20, axis=0)
    assert torch.isfinite(head_of(same)(as_maps(patches(3), 3))).all()
    far = head_of(same)(as_maps(1e4 * patches(3), 3))
    assert torch.isfinite(far).all()
    few = NearestHead(10, 2)
    few.remember(torch.from_numpy(patches(2, 1)[:, 0]))
    assert torch.isfinite(few(torch.from_numpy(patches(3, 1)[:, 0]))).all()


def test_a_score_does_not_depend_on_its_company() -> None:
    head, new = head_of(patches(9).reshape(-1, 10)), as_maps(patches(6, seed=1), 3)
    alone = torch.cat([head(new[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(head(new), alone, rtol=1e-5, atol=1e-5)


def test_patches_know_their_neighbours() -> None:
    """Each place is the mean of the 3x3 places around it that exist; coarser stages come to the finest one's size."""
    fine = np.random.default_rng(0).normal(size=(1, 2, 4, 6)).astype(np.float32)
    coarse = np.full((1, 3, 2, 3), 7.0, np.float32)
    made = patch_maps([torch.from_numpy(fine), torch.from_numpy(coarse)]).numpy()
    assert made.shape == (1, 5, 4, 6)
    for y in range(4):
        for x in range(6):
            around = fine[0, :, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean(axis=(1, 2))
            np.testing.assert_allclose(made[0, :2, y, x], around, rtol=1e-5)
    np.testing.assert_allclose(made[0, 2:], 7.0, rtol=1e-6)


def test_maps_are_smoothed_by_a_gaussian() -> None:
    rough = np.random.default_rng(0).normal(size=(2, 64, 80)).astype(np.float32)
    made = smooth_maps(torch.from_numpy(rough), 64, 80).numpy()
    expected = [gaussian_filter(one, SMOOTHING, mode="nearest", truncate=3) for one in rough]
    np.testing.assert_allclose(made, expected, atol=1e-5)
    level = smooth_maps(torch.full((1, 4, 4), 3.0), 32, 32)
    torch.testing.assert_close(level, torch.full((1, 32, 32), 3.0))


def test_the_heads_can_be_exported() -> None:
    """Plain products and gathers: what ONNX and OpenVINO take."""
    head, new = head_of(patches(100).reshape(-1, 10)), as_maps(patches(4, seed=1), 3)
    program = torch.export.export(head, (new,)).module()
    torch.testing.assert_close(program(new), head(new))

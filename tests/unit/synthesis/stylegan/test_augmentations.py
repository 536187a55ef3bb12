"""The discriminator's augmentation: exact where pixels only move, invertible, differentiable, off where p is 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from knowngood.synthesis.stylegan.augmentations import (
    _SYM6,
    augmented,
    blitted,
    draw_blits,
    draw_colour,
    draw_geometry,
    recoloured,
    warped,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def smooth(count: int, side: int = 32) -> torch.Tensor:
    """Returns pictures without the finest detail, fading to grey at their edges."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    waves = torch.stack([torch.sin(3 * x * math.cos(k) + 2 * y * math.sin(k) + k) for k in range(count)])
    window = ((1 - x**2) * (1 - y**2)).clamp(min=0) ** 2
    return (waves * window)[:, None]


def test_the_filter_is_orthonormal() -> None:
    taps = np.array(_SYM6)
    assert taps.sum() == pytest.approx(math.sqrt(2))
    for shift in range(6):
        product = (taps[2 * shift :] * taps[: len(taps) - 2 * shift]).sum()
        assert product == pytest.approx(float(shift == 0), abs=1e-9)


def test_no_movement_gives_the_pictures_back() -> None:
    pictures, still = torch.randn(3, 2, 32, 32), torch.eye(3).expand(3, 3, 3)
    torch.testing.assert_close(warped(pictures, still), pictures, atol=1e-4, rtol=0)
    assert torch.equal(blitted(pictures, still), pictures)


def test_blits_move_whole_pixels_and_come_back() -> None:
    pictures, matrix = torch.randn(40, 1, 16, 16), draw_blits(40, 16, 1.0)
    moved = blitted(pictures, matrix)
    values = [set(np.round(p.flatten().numpy(), 6)) for p in pictures]
    assert all(set(np.round(m.flatten().numpy(), 6)) <= v for m, v in zip(moved, values, strict=True))
    turned = matrix[:, :2, 2].abs().sum(dim=1) == 0  # without a shift nothing leaves the picture
    assert turned.any()
    back = blitted(moved[turned], torch.linalg.inv(matrix[turned]))
    assert torch.equal(back, pictures[turned])
    kinds = {tuple(m[:2, :2].flatten().int().tolist()) for m in matrix}
    assert len(kinds) == 8  # four turns, mirrored or not


def test_geometry_comes_back() -> None:
    pictures = smooth(6)
    matrix = draw_geometry(6, 1.0)
    matrix[:, :2, 2] *= 0.3
    matrix[:, :2, :2] = torch.linalg.qr(matrix[:, :2, :2])[0]  # rotations and shifts: nothing is lost in between
    back = warped(warped(pictures, matrix), torch.linalg.inv(matrix))
    inner = slice(10, 22)
    assert float((back - pictures)[..., inner, inner].abs().max()) < 0.05
    assert float((warped(pictures, matrix) - pictures).abs().max()) > 0.2


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_comes_back(channels: int) -> None:
    pictures, matrix = torch.randn(30, channels, 4, 4), draw_colour(30, 0.7, channels)
    back = recoloured(recoloured(pictures, matrix), torch.linalg.inv(matrix.double()).float())
    torch.testing.assert_close(back, pictures, atol=2e-2, rtol=1e-2)


def test_hue_and_saturation_leave_grey_alone() -> None:
    matrix = draw_colour(200, 1.0, 3)
    grey = torch.full((200, 3, 1, 1), 0.3)
    seen = recoloured(grey, matrix)
    assert float((seen - seen.mean(dim=1, keepdim=True)).abs().max()) < 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_pass_through_every_transform(channels: int) -> None:
    pictures = torch.randn(6, channels, 32, 32, requires_grad=True)
    weight = torch.randn(6, channels, 32, 32)
    (augmented(pictures, 0.8) * weight).sum().backward()
    assert pictures.grad is not None
    assert torch.isfinite(pictures.grad).all()
    assert (pictures.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_geometry_is_linear_so_its_gradient_is_its_transpose() -> None:
    pictures, other = (torch.randn(2, 1, 16, 16, dtype=torch.float32) for _ in range(2))
    matrix = draw_geometry(2, 1.0)
    pictures.requires_grad_(True)
    (gradient,) = torch.autograd.grad((warped(pictures, matrix) * other).sum(), pictures)
    probe = torch.randn_like(pictures)
    left, right = (warped(probe, matrix) * other).sum(), (probe * gradient).sum()
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-2)


def test_half_precision_around_it_moves_nothing() -> None:
    pictures = smooth(8, 64)
    torch.manual_seed(5)
    plain = augmented(pictures, 0.8)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmented(pictures, 0.8), plain)


def test_p_is_the_share_that_is_changed() -> None:
    pictures = torch.randn(4, 1, 16, 16)
    assert augmented(pictures, 0.0) is pictures
    shares = (draw_geometry(4000, 0.3)[:, :2, 2].abs().sum(dim=1) > 0).float().mean()
    assert float(shares) == pytest.approx(0.3, abs=0.03)
    bright = (draw_colour(4000, 0.2, 1)[:, 0, 3] != 0).float().mean()
    assert float(bright) == pytest.approx(0.2, abs=0.03)

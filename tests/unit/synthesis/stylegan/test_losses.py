"""Both gradient penalties against derivatives done by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from knowngood.synthesis.stylegan.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    path_lengths,
    path_penalty,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_losses_are_cross_entropies() -> None:
    real, fake = torch.randn(5), torch.randn(5)
    ones, zeros = torch.ones(5), torch.zeros(5)
    cross = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(generator_loss(fake), cross(fake, ones))
    torch.testing.assert_close(discriminator_loss(real, fake), cross(real, ones) + cross(fake, zeros))


def test_the_gradient_penalty_of_a_quadratic_and_its_own_gradient() -> None:
    """Score a/2 x.x has the gradient a x, the penalty a^2 |x|^2 / 2, and that has the gradient a |x|^2 by a."""
    factor = torch.tensor(1.7, requires_grad=True)
    pictures = torch.randn(4, 1, 3, 3)
    penalty = gradient_penalty(lambda x: factor * x.square().sum(dim=(1, 2, 3)) / 2, pictures)
    squares = pictures.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty, 1.7**2 * squares / 2)
    (found,) = torch.autograd.grad(penalty, factor)
    torch.testing.assert_close(found, 1.7 * squares)


def test_path_lengths_of_a_linear_picture() -> None:
    """A picture A w has the Jacobian A; the length is the norm of A^T y / sqrt(HW), averaged over layers."""
    matrix = torch.randn(12, 5, requires_grad=True)  # 3 x 4 pixels from a style of 5, all layers alike
    ws = torch.randn(6, 2, 5)

    def synthesis(styles: torch.Tensor) -> torch.Tensor:
        return (styles.sum(dim=1) @ matrix.T).view(-1, 1, 3, 4)

    torch.manual_seed(7)
    lengths = path_lengths(synthesis, ws)
    torch.manual_seed(7)
    noise = torch.randn(6, 1, 3, 4).view(6, 12) / 12**0.5
    each = noise @ matrix  # (6, 5): the same for both layers
    expected = each.square().sum(dim=1).sqrt()
    torch.testing.assert_close(lengths, expected)
    (found,) = torch.autograd.grad(path_penalty(lengths, torch.tensor(0.3)), matrix)
    (wanted,) = torch.autograd.grad((expected - 0.3).square().mean(), matrix)
    torch.testing.assert_close(found, wanted)

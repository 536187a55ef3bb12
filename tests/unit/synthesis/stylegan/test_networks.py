"""The networks against explicit loops and scipy: modulation, filters, style mixing, minibatch deviation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor
from torch.nn import functional

from knowngood.synthesis.stylegan.config import NetworksConfig
from knowngood.synthesis.stylegan.losses import blur, upsample
from knowngood.synthesis.stylegan.networks import (
    Convolution,
    Dense,
    Discriminator,
    Generator,
    mixed,
    modulated_convolution,
    with_deviation,
)

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
SMALL = NetworksConfig(resolution=32, latent=16, mapping_layers=2, base=128, most=16)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def by_sample(images: Tensor, weight: Tensor, styles: Tensor, demodulate: bool, double: bool) -> Tensor:
    """Equations 1 and 3 of StyleGAN2 word for word, a kernel for each sample; double: zeros, kernel, filter."""
    made = []
    for image, style in zip(images, styles, strict=True):
        kernel = torch.zeros_like(weight)
        for o in range(weight.shape[0]):
            for i in range(weight.shape[1]):
                kernel[o, i] = weight[o, i] * style[i]
            if demodulate:
                kernel[o] = kernel[o] / torch.sqrt((kernel[o] ** 2).sum() + 1e-8)
        if double:
            channels = []
            for o in range(weight.shape[0]):
                total = np.zeros((2 * image.shape[1], 2 * image.shape[2]))
                for i in range(weight.shape[1]):
                    spread = np.zeros((2 * image.shape[1] - 1, 2 * image.shape[2] - 1))
                    spread[::2, ::2] = image[i]
                    whole = convolve2d(convolve2d(spread, kernel[o, i]), 4 * TAPS)
                    total += whole[2:-2, 2:-2]
                channels.append(total)
            made.append(torch.tensor(np.stack(channels), dtype=torch.float32))
        else:
            made.append(functional.conv2d(image[None], kernel, padding=weight.shape[2] // 2)[0])
    return torch.stack(made)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_is_a_kernel_for_each_sample(demodulate: bool, double: bool) -> None:
    images, weight, styles = torch.randn(3, 4, 6, 5), torch.randn(7, 4, 3, 3), torch.randn(3, 4)
    found = modulated_convolution(images, weight, styles, demodulate=demodulate, double=double)
    torch.testing.assert_close(found, by_sample(images, weight, styles, demodulate, double), atol=2e-5, rtol=1e-4)


def test_demodulated_outputs_have_unit_variance_whatever_the_style() -> None:
    images, weight = torch.randn(64, 32, 16, 16), torch.randn(8, 32, 3, 3)
    found = modulated_convolution(images, weight, 50 * torch.rand(64, 32))[..., 1:-1, 1:-1]
    assert 0.9 < float(found.var()) < 1.1


def test_upsampling_is_zeros_then_the_filter() -> None:
    image = torch.randn(1, 1, 7, 5)
    spread = np.zeros((14, 10))
    spread[::2, ::2] = image[0, 0]
    expected = convolve2d(spread, 4 * TAPS)[1:-2, 1:-2]
    np.testing.assert_allclose(upsample(image)[0, 0].numpy(), expected, atol=1e-5)
    assert float(upsample(torch.ones(1, 1, 8, 8))[0, 0, 4, 4]) == pytest.approx(1)


@pytest.mark.parametrize("pad", [0, 1, 2, 3])
def test_blurring_and_its_derivatives_of_first_and_second_order(pad: int) -> None:
    images = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    expected = [[convolve2d(np.pad(c, pad), TAPS, mode="valid") for c in image] for image in images.detach().numpy()]
    np.testing.assert_allclose(blur(images, pad).detach().numpy(), np.array(expected), atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: blur(x, pad), images)
    assert torch.autograd.gradgradcheck(lambda x: blur(x**2, pad), images)


@pytest.mark.parametrize("size", [1, 3])
def test_halving_filters_before_it_drops_pixels(size: int) -> None:
    layer, images = Convolution(2, 3, size, halve=True, bend=False), torch.randn(1, 2, 8, 8)
    pad = 1 if size == 1 else 2
    smooth = torch.tensor(
        np.stack([convolve2d(np.pad(c, pad), TAPS[::-1, ::-1], mode="valid") for c in images[0].numpy()]),
        dtype=torch.float32,
    )[None]
    expected = functional.conv2d(smooth, layer.weight * layer.scale, stride=2)
    torch.testing.assert_close(layer(images), expected, atol=1e-5, rtol=1e-4)


def test_folding_the_gain_changes_nothing() -> None:
    layer, values = Dense(6, 4, rate=0.5), torch.randn(3, 6)
    with torch.no_grad():
        layer.bias.copy_(torch.randn(4))
    plain = functional.linear(values, layer.weight * (0.5 / 6**0.5)) + layer.bias * 0.5
    torch.testing.assert_close(layer(values), functional.leaky_relu(plain, 0.2) * 2**0.5)


def test_minibatch_deviation_is_the_mean_over_a_group() -> None:
    images = torch.randn(8, 3, 4, 4)
    channel = with_deviation(images, group=4)[:, 3]
    for first in (0, 1):
        group = images[first::2]
        expected = torch.sqrt(group.var(dim=0, unbiased=False) + 1e-8).mean()
        torch.testing.assert_close(channel[first::2], expected.expand(4, 4, 4))


def test_style_mixing_swaps_a_tail_of_the_layers() -> None:
    first, second = torch.zeros(200, 10, 1), torch.ones(200, 10, 1)
    rows = mixed(first, second, 0.5)[:, :, 0]
    assert (rows.diff(dim=1) >= 0).all()
    assert (rows[:, 0] == 0).all()
    assert 0.35 < float((rows[:, -1] == 1).float().mean()) < 0.65
    assert torch.equal(mixed(first, second, 0.0), first)


def test_truncation_pulls_towards_the_mean_and_noise_is_an_input() -> None:
    network = Generator(SMALL).eval()
    z, shapes = torch.randn(2, 16), network.synthesis.noise_shapes()
    network.mapping(z, learn=True)
    noise = [torch.randn(2, 1, *shape) for shape in shapes]
    torch.testing.assert_close(network.styles(z, truncation=0.0)[:, 3], network.mapping.average.expand(2, -1))
    assert torch.equal(network(z, noise=noise), network(z, noise=noise))
    with torch.no_grad():
        for layer in network.synthesis.styled:
            layer.strength.fill_(1.0)
    assert not torch.equal(network(z, noise=noise), network(z, noise=[*noise[:-1], noise[-1] + 1]))


@pytest.mark.parametrize(("channels", "classes", "resolution"), [(1, 0, 32), (3, 3, 64)])
def test_shapes(channels: int, classes: int, resolution: int) -> None:
    config = SMALL.model_copy(update={"channels": channels, "classes": classes, "resolution": resolution})
    asked = torch.tensor([0, 2, 1, 1]) if classes else None
    pictures = Generator(config)(torch.randn(4, 16), asked)
    assert pictures.shape == (4, channels, resolution, resolution)
    assert Discriminator(config)(pictures, asked).shape == (4,)


def test_the_class_that_is_asked_for_makes_a_difference() -> None:
    config = SMALL.model_copy(update={"classes": 2})
    network, score = Generator(config), Discriminator(config)
    z, noise = torch.randn(1, 16), [torch.zeros(1, 1, *s) for s in Generator(config).synthesis.noise_shapes()]
    one, two = (network(z, torch.tensor([c]), noise=noise) for c in (0, 1))
    assert not torch.allclose(one, two)
    assert not torch.allclose(score(one, torch.tensor([0])), score(one, torch.tensor([1])))

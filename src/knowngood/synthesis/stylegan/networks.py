"""The networks of StyleGAN2: mapping, synthesis with skips, residual discriminator. Written from the papers alone.

Read from top to bottom: equalised layers, modulated convolution, mapping, synthesis, generator, discriminator.
Activations are leaky ReLUs of slope 0.2; their gain of sqrt(2) is folded into weights and biases, which a positively
homogeneous function allows, and so costs nothing.

References: Karras et al. 2019 (StyleGAN), Karras et al. 2020a (StyleGAN2), Karras et al. 2020b (ADA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowngood.synthesis.stylegan.config import NetworksConfig
from knowngood.synthesis.stylegan.losses import blur, upsample

SLOPE, GAIN = 0.2, math.sqrt(2)
W_DECAY = 0.995  # of the running mean of w


# Layers -------------------------------------------------------------------------------------------------------------


def activated(values: Tensor, bias: Tensor) -> Tensor:
    """Adds a bias (C,) and bends negative values; the gain is in weights and bias already."""
    shape = (1, -1, *[1] * (values.ndim - 2))
    return functional.leaky_relu(values + bias.to(values.dtype).view(shape), SLOPE)


class Dense(nn.Module):
    """Fully connected, with an equalised learning rate (Karras et al. 2018, section 4.1)."""

    def __init__(self, entries: int, outputs: int, *, bend: bool = True, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, entries) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.bend, self.rate = bend, rate
        self.scale = rate / math.sqrt(entries) * (GAIN if bend else 1.0)

    def forward(self, values: Tensor) -> Tensor:
        """(B, entries) to (B, outputs)."""
        made = functional.linear(values, self.weight * self.scale)
        if self.bend:
            return activated(made, self.bias * (self.rate * GAIN))
        return made + (self.bias * self.rate).to(made.dtype)


class Convolution(nn.Module):
    """Of the discriminator: equalised, filtered before it halves the side; `bend` adds bias and activation."""

    def __init__(self, entries: int, outputs: int, size: int, *, halve: bool = False, bend: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, entries, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bend else None
        self.scale = (GAIN if bend else 1.0) / math.sqrt(entries * size * size)
        self.halve, self.size = halve, size

    def forward(self, images: Tensor) -> Tensor:
        """(B, entries, H, W) to (B, outputs, H, W), or half of it."""
        weight = self.weight * self.scale
        if self.halve:
            made = functional.conv2d(blur(images, 1 + self.size // 2), weight, stride=2)
        else:
            made = functional.conv2d(images, weight, padding=self.size // 2)
        return made if self.bias is None else activated(made, self.bias * GAIN)


def modulated_convolution(
    images: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    double: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Convolves each image with the weight times its own style, scaled back to unit variance.

    A style scales input channels and demodulation output channels, so the images are scaled before and after one
    convolution that all of them share; that is the same as a kernel for each image, and much faster on a CPU.

    Args:
        images: (B, I, H, W).
        weight: (O, I, K, K), K odd.
        styles: (B, I).
        demodulate: Whether to divide by the norm of each output's modulated kernel.
        double: Double the side: zeros between the pixels, the kernel, the filter.
        gain: Of the result, where it is demodulated.

    Returns:
        (B, O, H, W), or twice the side.

    Reference:
        Karras et al. 2020a, equations 1 and 3.
    """
    kind = images.dtype
    scaled = images * styles.to(kind)[:, :, None, None]
    if double:
        made = blur(functional.conv_transpose2d(scaled, 4 * weight.transpose(0, 1), stride=2), 1)
    else:
        made = functional.conv2d(scaled, weight, padding=weight.shape[2] // 2)
    if not demodulate:
        return made
    squares = styles.float().square() @ weight.float().square().sum(dim=(2, 3)).T  # (B, O)
    return made * (gain * (squares + 1e-8).rsqrt()).to(made.dtype)[:, :, None, None]


# Generator ----------------------------------------------------------------------------------------------------------


class Mapping(nn.Module):
    """From z, and the class wanted, to w: where factors of variation are less entangled."""

    average: Tensor

    def __init__(self, config: NetworksConfig) -> None:
        super().__init__()
        self.classes = config.classes
        self.embed = Dense(config.classes, config.latent, bend=False) if config.classes else None
        first = config.latent * (2 if config.classes else 1)
        sizes = [first, *[config.latent] * config.mapping_layers]
        self.stack = nn.ModuleList([Dense(a, b, rate=0.01) for a, b in pairwise(sizes)])
        self.register_buffer("average", torch.zeros(config.latent))

    def forward(self, z: Tensor, classes: Tensor | None = None, *, learn: bool = False) -> Tensor:
        """(B, latent) and classes (B,) int64 to w (B, latent); `learn` moves the running mean of w."""
        with torch.autocast(z.device.type, enabled=False):
            values: Tensor = _unit(z.float())
            if self.embed is not None:
                assert classes is not None
                hot = functional.one_hot(classes, self.classes).float()
                values = torch.cat([values, _unit(self.embed(hot))], dim=1)
            for layer in self.stack:
                values = layer(values)
        if learn:
            self.average.copy_(values.detach().mean(dim=0).lerp(self.average, W_DECAY))
        return values


def _unit(values: Tensor) -> Tensor:
    return values * (values.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class StyledConvolution(nn.Module):
    """Modulated convolution, noise, bias, activation."""

    def __init__(self, entries: int, outputs: int, latent: int, *, doubles: bool = False) -> None:
        super().__init__()
        self.style = Dense(latent, entries, bend=False, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, entries, 3, 3))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.doubles = doubles

    def forward(self, images: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """`noise` is (B, 1, H, W) of the output's size, or None for fresh noise."""
        weight = self.weight / math.sqrt(self.weight[0].numel())  # keeps squares small in half precision
        made = modulated_convolution(images, weight, self.style(w), double=self.doubles, gain=GAIN)
        if noise is None:
            noise = torch.randn(len(made), 1, *made.shape[2:], device=made.device)
        made = made + (noise * (self.strength * GAIN)).to(made.dtype)
        return activated(made, self.bias * GAIN)


class ToImage(nn.Module):
    """A stage's share of the picture: 1 x 1, modulated, not demodulated."""

    def __init__(self, entries: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.style = Dense(latent, entries, bend=False, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, entries, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, images: Tensor, w: Tensor) -> Tensor:
        weight = self.weight / math.sqrt(self.weight[0].numel())
        made = modulated_convolution(images, weight, self.style(w), demodulate=False)
        return made.float() + self.bias[None, :, None, None]


class Synthesis(nn.Module):
    """From w to the picture, a sum over stages of doubled side (Karras et al. 2020a, figure 7b)."""

    def __init__(self, config: NetworksConfig) -> None:
        super().__init__()
        self.sides = config.sides
        first = config.width(4)
        self.constant = nn.Parameter(torch.randn(1, first, 4, 4))
        styled, shares, before = [], [], first
        for side in self.sides:
            width = config.width(side)
            if side > 4:
                styled.append(StyledConvolution(before, width, config.latent, doubles=True))
            styled.append(StyledConvolution(width, width, config.latent))
            shares.append(ToImage(width, config.channels, config.latent))
            before = width
        self.styled, self.shares = nn.ModuleList(styled), nn.ModuleList(shares)

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise of every styled convolution."""
        return [(side, side) for side in self.sides for _ in range(1 if side == 4 else 2)]

    def forward(self, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Ws (B, layers, latent) to pictures (B, C, R, R), -1 black to 1 white; `noise` by `noise_shapes`."""
        images = self.constant.expand(len(ws), -1, -1, -1)
        picture: Tensor | None = None
        layer = 0
        for stage, share in enumerate(self.shares):
            for _ in range(1 if stage == 0 else 2):
                given = None if noise is None else noise[layer]
                images = self.styled[layer](images, ws[:, layer], given)
                layer += 1
            part = share(images, ws[:, layer])
            picture = part if picture is None else upsample(picture) + part
        assert picture is not None
        return picture


class Generator(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: NetworksConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping, self.synthesis = Mapping(config), Synthesis(config)

    def styles(
        self, z: Tensor, classes: Tensor | None = None, *, truncation: float = 1.0, learn: bool = False
    ) -> Tensor:
        """Returns (B, layers, latent), pulled towards the mean of w by `truncation` below 1."""
        w = self.mapping(z, classes, learn=learn)
        if truncation != 1:
            w = self.mapping.average.lerp(w, truncation)
        styles: Tensor = w[:, None].expand(-1, self.config.layers, -1)
        return styles

    def forward(
        self,
        z: Tensor,
        classes: Tensor | None = None,
        *,
        truncation: float = 1.0,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Z (B, latent) to pictures (B, C, R, R) in about -1..1."""
        made: Tensor = self.synthesis(self.styles(z, classes, truncation=truncation), noise)
        return made


def mixed(first: Tensor, second: Tensor, probability: float) -> Tensor:
    """Style mixing: from a layer drawn for each image on, with a probability, the second styles replace the first.

    Args:
        first: (B, layers, latent).
        second: The same.
        probability: Of mixing at all.

    Reference:
        Karras et al. 2019, section 3.1.
    """
    count, layers, _ = first.shape
    at = torch.randint(1, layers, (count, 1), device=first.device)
    at = torch.where(torch.rand(count, 1, device=first.device) < probability, at, torch.full_like(at, layers))
    later = torch.arange(layers, device=first.device)[None] >= at
    return torch.where(later[:, :, None], second, first)


# Discriminator ------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Two convolutions beside a 1 x 1 skip, half the side after it."""

    def __init__(self, entries: int, outputs: int) -> None:
        super().__init__()
        self.skip = Convolution(entries, outputs, 1, halve=True, bend=False)
        self.one = Convolution(entries, entries, 3)
        self.two = Convolution(entries, outputs, 3, halve=True)

    def forward(self, images: Tensor) -> Tensor:
        both: Tensor = self.two(self.one(images)) + self.skip(images)
        return both * math.sqrt(0.5)


def deviations(images: Tensor, group: int) -> Tensor:
    """Returns at each place and channel the standard deviation over a group of images, (B, C, H, W) float32.

    Args:
        images: (B, C, H, W).
        group: Images a group; the largest divisor of B up to it is taken.
    """
    count = len(images)
    size = next(n for n in range(min(group, count), 0, -1) if count % n == 0)
    groups = images.float().reshape(size, -1, *images.shape[1:])
    return (groups.var(dim=0, unbiased=False) + 1e-8).sqrt().repeat(size, 1, 1, 1)


def with_deviation(images: Tensor, group: int = 4) -> Tensor:
    """Appends one channel: the mean standard deviation over a group of images (Karras et al. 2018, section 3).

    Args:
        images: (B, C, H, W).
        group: Images a group; the largest divisor of B up to it is taken.
    """
    spread = deviations(images, group).mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    channel = spread.expand(-1, -1, *images.shape[2:])
    return torch.cat([images, channel.to(images.dtype)], dim=1)


class Discriminator(nn.Module):
    """Pictures to logits: higher means taken for a photograph."""

    def __init__(self, config: NetworksConfig) -> None:
        super().__init__()
        sides, last = config.sides[::-1], config.width(4)
        self.enter = Convolution(config.channels, config.width(sides[0]), 1)
        pairs = pairwise(sides)
        self.blocks = nn.ModuleList([Residual(config.width(a), config.width(b)) for a, b in pairs])
        self.close = Convolution(last + 1, last, 3)
        self.dense = Dense(last * 16, last)
        self.score = Dense(last, max(1, config.classes), bend=False)

    def forward(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, C, R, R), and classes (B,) where there are any, to logits (B,)."""
        values = self.enter(pictures)
        for block in self.blocks:
            values = block(values)
        values = self.close(with_deviation(values))
        with torch.autocast(pictures.device.type, enabled=False):
            scores: Tensor = self.score(self.dense(values.float().flatten(1)))
        return scores[:, 0] if classes is None else scores.gather(1, classes[:, None])[:, 0]

    def both(self, fake: Tensor, real: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the logits of samples and of photographs, which must not see one another's deviation."""
        return self(fake, classes), self(real, classes)

    def finest(self, count: int) -> list[nn.Module]:
        """Returns the layers nearest to the pixels: entry and `count` blocks (freeze-D, Mo et al. 2020)."""
        return [self.enter, *self.blocks[:count]] if count else []

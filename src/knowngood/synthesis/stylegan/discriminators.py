"""Discriminators: residual (StyleGAN2) and projected, which works on features of a pretrained network.

Read from top to bottom: the frozen network with its fixed random mixing, a head for each scale, all of them together.
What differs from the paper: no batch norm, but the deviations within a group of images beside the maps (without either,
all samples become one), and the adaptive augmentation that the residual discriminator has too. Written from the paper
alone.

Reference: Sauer et al. 2021 (Projected GANs converge faster), section 3 and appendix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Classifier, network_for
from knowngood.models.weights.search import find
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.losses import discriminator_hinge, discriminator_loss, generator_hinge, generator_loss
from knowngood.synthesis.stylegan.networks import GAIN, SLOPE, Discriminator, deviations
from knowngood.training.fine_tuning import wants_bf16

NARROW, WIDE = 64, 256  # channels of the finest mixed maps, and the most of a head
LEVELS = 3  # stages that are used, the finest
GROUP = 8  # images per group of the minibatch deviation
LAST = 4  # side of the maps of logits


def seeing(backbone: str, side: int, channels: int) -> Classifier:
    """Returns a pretrained network, frozen, without the coarse stages: they cost much and see nothing of details.

    Args:
        backbone: Name in the model registry.
        side: Side in pixels that pictures are brought to for it.
        channels: 1 grey, 3 RGB.

    Raises:
        WeightsError: No place has its weights.
    """
    weights = find(backbone)
    stages = BACKBONES.get(backbone).stages[:LEVELS]
    config = network_for(backbone, weights, side, side, channels).model_copy(update={"stages": stages})
    network = Classifier(config)
    network.load_trunk(weights)
    network.trunk.prune_intermediate_layers(list(stages), prune_norm=True, prune_head=True)
    return network.requires_grad_(False).eval()


def clouds(side: int, channels: int, count: int = 16) -> Tensor:
    """Returns pictures that vary on all scales as photographs do, (count, channels, side, side), 0..255."""
    generator = torch.Generator().manual_seed(0)
    made = torch.zeros(count, channels, side, side)
    size = 2
    while size <= side:
        noise = torch.randn(count, channels, size, size, generator=generator)
        made += functional.interpolate(noise, (side, side), mode="bilinear")
        size *= 2
    return (127.5 + 50 * made / made.std()).clamp(0, 255)


class Mixing(nn.Module):
    """Fixed random convolutions: across channels at each scale, then across scales from the coarsest to the finest.

    They spread over all channels what a discriminator could else ignore (section 3.2).

    Args:
        maps: Feature maps of the network for some pictures, (B, C_i, H_i, W_i), the finest first: they set the scale.
    """

    scale: Tensor

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        entries = [each.shape[1] for each in maps]
        self.register_buffer("scale", torch.stack([each.square().mean().rsqrt() for each in maps]))
        self.widths = [min(WIDE, NARROW * 2**level) for level in range(len(entries))]
        for level, (count, width) in enumerate(zip(entries, self.widths, strict=True)):
            self.register_buffer(f"across_{level}", torch.randn(width, count, 1, 1) / math.sqrt(count))
            self.register_buffer(f"within_{level}", torch.randn(width, width, 3, 3) / math.sqrt(9 * width))
        for level, (fine, coarse) in enumerate(pairwise(self.widths)):
            self.register_buffer(f"down_{level}", torch.randn(fine, coarse, 1, 1) / math.sqrt(coarse))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i), the finest first, to as many of `widths` channels and the same sides."""
        made: list[Tensor] = []
        for level in reversed(range(len(maps))):
            here = functional.conv2d(maps[level] * self.scale[level], self.get_buffer(f"across_{level}"))
            if made:
                below = functional.conv2d(made[0], self.get_buffer(f"down_{level}"))
                here = (here + functional.interpolate(below, here.shape[2:], mode="bilinear")) * math.sqrt(0.5)
            made.insert(0, functional.conv2d(here, self.get_buffer(f"within_{level}"), padding=1))
        return made


class Head(nn.Module):
    """Discriminator of one scale: halves until the side is 4, then a logit at each place.

    Args:
        side: Of its maps.
        entries: Channels of its maps.
        outputs: Logits at each place.
    """

    def __init__(self, side: int, entries: int, outputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        entries *= 2  # with the deviations
        while side > LAST:
            width = min(WIDE, 2 * entries)
            self.blocks.append(spectral_norm(nn.Conv2d(entries, width, 4, 2, 1)))
            entries, side = width, side // 2
        self.wide = spectral_norm(nn.Conv2d(entries, WIDE, 3, 1, 1))
        self.score = spectral_norm(nn.Conv2d(WIDE, outputs, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, entries, side, side) to logits (B, outputs, places)."""
        maps = torch.cat([maps, deviations(maps, GROUP).to(maps.dtype)], dim=1)
        for block in (*self.blocks, self.wide):
            maps = functional.leaky_relu(block(maps), SLOPE) * GAIN
        logits: Tensor = self.score(maps)
        return logits.float().flatten(2)


class ProjectedDiscriminator(nn.Module):
    """Pictures to logits, some for each scale of a frozen network.

    Args:
        networks: Resolution, channels and classes of the pictures.
        network: From `seeing`; its tensors are no part of the state.
        kind: Of its weights; autocast would bring frozen ones to it anew in every pass.
    """

    rate = 0.2  # of the learning rate: its layers are not equalised

    def __init__(self, networks: NetworksConfig, network: Classifier, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._seen_by = (network,)  # a tuple: neither saved, nor trained, nor counted
        with torch.inference_mode():
            maps = network.stage_maps(clouds(networks.resolution, networks.channels).to(network.mean.device))
        network.trunk.to(kind)
        self.mixing = Mixing([each.clone() for each in maps])
        outputs = max(1, networks.classes)
        self.heads = nn.ModuleList(
            [Head(each.shape[2], width, outputs) for each, width in zip(maps, self.mixing.widths, strict=True)]
        )

    def forward(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, C, R, R) in -1..1, and classes (B,) where there are any, to logits (B, places of all scales)."""
        return self._judged(self._seen(pictures), classes)

    def both(self, fake: Tensor, real: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the logits of samples and of photographs; the network's weights are read once for both."""
        maps = [each.chunk(2) for each in self._seen(torch.cat([fake, real]))]
        on_fake, on_real = (self._judged([each[half] for each in maps], classes) for half in (0, 1))
        return on_fake, on_real

    def _seen(self, pictures: Tensor) -> list[Tensor]:
        mixed: list[Tensor] = self.mixing(self._seen_by[0].stage_maps((pictures + 1) * 127.5))
        return mixed

    def _judged(self, maps: list[Tensor], classes: Tensor | None) -> Tensor:
        logits = [head(each) for head, each in zip(self.heads, maps, strict=True)]
        if classes is None:
            return torch.cat([each[:, 0] for each in logits], dim=1)
        rows = torch.arange(len(classes), device=classes.device)
        return torch.cat([each[rows, classes] for each in logits], dim=1)

    def finest(self, count: int) -> list[nn.Module]:
        """Returns nothing: the layers nearest to the pixels are frozen as they are."""
        return []


R1_EVERY = 16  # steps between lazy penalties


@dataclass
class DiscriminatorTraining:
    """A discriminator under training.

    Attributes:
        name: "residual" or "projected".
        network: Pictures to logits.
        optimiser: Of its own layers.
        generator_loss: Of logits of samples: the loss of the generator.
        discriminator_loss: Of logits of photographs and of samples.
        r1: Weight of the gradient penalty; 0 for none.
        joins: Step from which it takes part.
        frozen: Layers that stay as they are.
    """

    name: str
    network: Discriminator | ProjectedDiscriminator
    optimiser: torch.optim.Adam
    generator_loss: Callable[[Tensor], Tensor]
    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    r1: float = 0.0
    joins: int = 0
    frozen: tuple[nn.Module, ...] = field(default=())

    def unfreeze(self) -> None:
        """Sets `requires_grad` of all layers but the frozen ones."""
        self.network.requires_grad_(True)
        for layer in self.frozen:
            layer.requires_grad_(False)


def make_discriminators(
    config: SynthesisConfig, networks: NetworksConfig, device: torch.device
) -> list[DiscriminatorTraining]:
    """Returns the discriminators that are asked for, on a device; the first one measures overfitting.

    Two side by side are an ensemble as in Kumari et al. 2022 (Ensembling off-the-shelf models for GAN training).

    Raises:
        WeightsError: There are no weights for the network that a projected one uses.
    """
    layout: Any = {"memory_format": torch.channels_last}
    made = []
    if config.discriminator in ("residual", "both"):
        network = Discriminator(networks).to(device).to(**layout)
        optimiser = adam(network, config.learning_rate, R1_EVERY if config.r1_weight else 0)
        made.append(
            DiscriminatorTraining(
                "residual", network, optimiser, generator_loss, discriminator_loss, r1=config.r1_weight
            )
        )
    if config.discriminator in ("projected", "both"):
        kind = torch.bfloat16 if wants_bf16(config.precision) else torch.float32
        assert config.model is not None  # chosen by `train_generator`, which records its name
        trunk = seeing(config.model, config.resolution, networks.channels).to(device).to(**layout)
        projected = ProjectedDiscriminator(networks, trunk, kind).to(device).to(**layout)
        optimiser = adam(projected, config.learning_rate * ProjectedDiscriminator.rate)
        joins = config.steps(config.join_kimg) if config.discriminator == "both" else 0
        made.append(
            DiscriminatorTraining("projected", projected, optimiser, generator_hinge, discriminator_hinge, joins=joins)
        )
    return made


def adam(network: nn.Module, rate: float, every: int = 0) -> torch.optim.Adam:
    """Adam, its rate and decay set back for the extra steps of a lazy penalty (Karras et al. 2020a, appendix B).

    Args:
        network: Whose parameters it moves.
        rate: Learning rate.
        every: Steps between lazy penalties; 0 for none.
    """
    ratio = every / (every + 1) if every else 1.0
    return torch.optim.Adam(network.parameters(), lr=rate * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)

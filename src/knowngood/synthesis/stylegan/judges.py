"""Who judges the pictures: one discriminator, or two side by side, each with its own losses and optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from knowngood.models.training.finetune import wants_bf16
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.losses import (
    discriminator_hinge,
    discriminator_loss,
    generator_hinge,
    generator_loss,
)
from knowngood.synthesis.stylegan.networks import Discriminator
from knowngood.synthesis.stylegan.projected import ProjectedDiscriminator, seeing

R1_EVERY = 16  # steps between lazy penalties


@dataclass
class Judge:
    """A discriminator under training.

    Attributes:
        name: "residual" or "projected".
        network: Pictures to logits.
        optimiser: Of its own layers.
        generator_loss: Of logits of samples: what the generator is taught by.
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

    def learns(self) -> None:
        """Has its layers take part in gradients again, but for the frozen ones."""
        self.network.requires_grad_(True)
        for layer in self.frozen:
            layer.requires_grad_(False)


def judges(config: SynthesisConfig, networks: NetworksConfig, device: torch.device) -> list[Judge]:
    """Returns the discriminators that are asked for, on a device; the first one says how much is overfitted.

    Two side by side are an ensemble as in Kumari et al. 2022 (Ensembling off-the-shelf models for GAN training).

    Raises:
        WeightsError: There are no weights for the network that a projected one looks through.
    """
    layout: Any = {"memory_format": torch.channels_last}
    made = []
    if config.discriminator in ("residual", "both"):
        network = Discriminator(networks).to(device).to(**layout)
        optimiser = adam(network, config.learning_rate, R1_EVERY if config.r1_weight else 0)
        made.append(Judge("residual", network, optimiser, generator_loss, discriminator_loss, r1=config.r1_weight))
    if config.discriminator in ("projected", "both"):
        kind = torch.bfloat16 if wants_bf16(config.precision) else torch.float32
        assert config.projector is not None  # whoever asks has chosen one, and keeps its name
        trunk = seeing(config.projector, config.resolution, networks.channels).to(device).to(**layout)
        projected = ProjectedDiscriminator(networks, trunk, kind).to(device).to(**layout)
        optimiser = adam(projected, config.learning_rate * ProjectedDiscriminator.rate)
        joins = config.steps(config.join_kimg) if config.discriminator == "both" else 0
        made.append(Judge("projected", projected, optimiser, generator_hinge, discriminator_hinge, joins=joins))
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

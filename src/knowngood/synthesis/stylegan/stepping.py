"""One StyleGAN under training: networks, optimisers, and what one step does to them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from knowngood.errors import TrainingError
from knowngood.models.training.finetune import wants_bf16
from knowngood.models.weights.preferring import preferred
from knowngood.seeding import seed_of
from knowngood.synthesis.stylegan.augmentations import MOST, augmented
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.losses import (
    discriminator_hinge,
    discriminator_loss,
    generator_hinge,
    generator_loss,
    gradient_penalty,
    path_lengths,
    path_penalty,
)
from knowngood.synthesis.stylegan.networks import Discriminator, Generator, mixed
from knowngood.synthesis.stylegan.projected import ProjectedDiscriminator, seeing

R1_EVERY, PATH_EVERY, ADA_EVERY = 16, 4, 4  # steps between lazy penalties, and between two looks at overfitting
_PATH_DECAY, _PATH_SHRINK = 0.01, 2
LOSSES = {"residual": (generator_loss, discriminator_loss), "projected": (generator_hinge, discriminator_hinge)}
_RAMP = 0.05  # the average's half-life is at most this share of what was shown


@dataclass(frozen=True)
class Shown:
    """Photographs that a training draws from.

    Attributes:
        pixels: (N, C, R, R) uint8.
        classes: (N,) int64, or None.
    """

    pixels: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64] | None = None

    def batch(self, step: int, size: int, seed: int, rank: int, world: int) -> tuple[Tensor, Tensor | None]:
        """Returns one device's share of a step: every photograph once before any comes again, in a drawn order."""
        count, first = len(self.pixels), step * size
        places = np.arange(first, first + size)[rank::world]
        orders = {
            turn: np.random.default_rng([seed, turn]).permutation(count) for turn in set((places // count).tolist())
        }
        rows = np.array([orders[place // count][place % count] for place in places.tolist()])
        pictures = torch.from_numpy(self.pixels[rows]).float() / 127.5 - 1
        return pictures, None if self.classes is None else torch.from_numpy(self.classes[rows])


@dataclass
class Progress:
    """What a training knows of itself besides weights.

    Attributes:
        step: Steps done in all phases.
        p: Probability of the discriminator's augmentation.
        path: Running mean of path lengths.
        signs: Sum of the signs of logits of photographs, and how many, since the last look.
        history: A row a tick.
    """

    step: int = 0
    p: float = 0.0
    path: float = 0.0
    signs: list[float] = field(default_factory=lambda: [0.0, 0.0])
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """Both networks, the averaged generator, their optimisers; `step` moves all of them once.

    Args:
        config: Rates and weights.
        networks: Sizes.
        fabric: Devices and arithmetic.
    """

    def __init__(self, config: SynthesisConfig, networks: NetworksConfig, fabric: Fabric) -> None:
        self.config, self.fabric = config, fabric
        self.generator_loss, self.discriminator_loss = LOSSES[config.discriminator]
        torch.manual_seed(config.seed)
        layout: Any = {"memory_format": torch.channels_last}
        self.generator = Generator(networks).to(fabric.device).to(**layout)
        self.discriminator = _discriminator(config, networks, fabric).to(fabric.device).to(**layout)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.for_generator = self._optimiser(self.generator, PATH_EVERY if config.path_length else 0)
        lazy = R1_EVERY if config.r1_weight else 0
        self.for_discriminator = self._optimiser(self.discriminator, lazy, self.discriminator.rate)
        self.frozen: tuple[nn.Module, ...] = ()
        self.progress = Progress()
        self.losses: dict[str, Tensor] = {}

    def _optimiser(self, network: nn.Module, every: int, share: float = 1.0) -> torch.optim.Adam:
        """Adam, its rate and decay set back for the extra steps of a lazy penalty (2020a, appendix B)."""
        ratio = every / (every + 1) if every else 1.0
        rate = self.config.learning_rate * share * ratio
        return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99**ratio), eps=1e-8)

    def step(self, shown: Shown, number: int) -> None:
        """Shows one batch.

        Args:
            shown: Photographs.
            number: Of the step within its phase.

        Raises:
            TrainingError: A loss is no longer finite.
        """
        config, fabric, progress = self.config, self.fabric, self.progress
        torch.manual_seed(seed_of(config.seed, progress.step, fabric.global_rank))
        real, classes = shown.batch(number, config.batch_size, config.seed, fabric.global_rank, fabric.world_size)
        real = real.to(fabric.device).contiguous(memory_format=torch.channels_last)
        classes = None if classes is None else classes.to(fabric.device)
        with fabric.autocast():
            self._teach_generator(len(real), classes)
            if config.path_length and progress.step % PATH_EVERY == 0:
                self._smooth_paths(max(1, len(real) // _PATH_SHRINK), classes)
            self._teach_discriminator(real, classes)
        if config.r1_weight and progress.step % R1_EVERY == 0:
            self._penalise(real, classes)
        progress.step += 1
        self._average()
        if progress.step % ADA_EVERY == 0:
            self._check()
            self._adapt()

    def _teach_generator(self, count: int, classes: Tensor | None) -> None:
        self.discriminator.requires_grad_(False)
        picture = self.generator.synthesis(self._styles(count, classes))
        score = self.discriminator(augmented(picture, self.progress.p), classes)
        loss = self.generator_loss(score)
        self._move(self.for_generator, self.generator, loss)
        self.losses["generator"] = loss.detach()

    def _smooth_paths(self, count: int, classes: Tensor | None) -> None:
        ws = self._styles(count, None if classes is None else classes[:count])
        lengths = path_lengths(self.generator.synthesis, ws)
        mean = self.fabric.all_reduce(lengths.detach().mean(), reduce_op="mean")
        target = self.progress.path + _PATH_DECAY * (float(mean) - self.progress.path)
        self.progress.path = target
        loss = path_penalty(lengths, torch.as_tensor(target)) * (self.config.path_length * PATH_EVERY)
        self._move(self.for_generator, self.generator, loss)
        self.losses["path"] = loss.detach()

    def _teach_discriminator(self, real: Tensor, classes: Tensor | None) -> None:
        _learns(self.discriminator, self.frozen)
        with torch.no_grad():
            fake = self.generator.synthesis(self._styles(len(real), classes, learn=False))
        p = self.progress.p
        on_fake, on_real = self.discriminator.both(augmented(fake, p), augmented(real, p), classes)
        loss = self.discriminator_loss(on_real, on_fake)
        self._move(self.for_discriminator, self.discriminator, loss)
        self.progress.signs[0] += float(on_real.detach().sign().mean()) * len(real)
        self.progress.signs[1] += len(real)
        self.losses["discriminator"] = loss.detach()

    def _penalise(self, real: Tensor, classes: Tensor | None) -> None:
        seen = augmented(real, self.progress.p)
        penalty = gradient_penalty(lambda pictures: self.discriminator(pictures, classes), seen)
        loss = penalty * (self.config.r1_weight * R1_EVERY)
        self._move(self.for_discriminator, self.discriminator, loss)
        self.losses["r1"] = penalty.detach()

    def _styles(self, count: int, classes: Tensor | None, *, learn: bool = True) -> Tensor:
        device, latent = self.fabric.device, self.config.latent
        first = self.generator.styles(torch.randn(count, latent, device=device), classes, learn=learn)
        if not self.config.mixing:
            return first
        second = self.generator.styles(torch.randn(count, latent, device=device), classes)
        return mixed(first, second, self.config.mixing)

    def freeze(self, blocks: int) -> None:
        """Leaves the discriminator's finest blocks as they are from now on (freeze-D, Mo et al. 2020)."""
        self.frozen = tuple(self.discriminator.finest(blocks))

    def _move(self, optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        if self.fabric.world_size > 1:  # once for each network, and no wrapper to stumble over second derivatives
            flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        optimiser.step()

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the averaged generator; early on its half-life is a share of what was shown."""
        shown = self.progress.step * self.config.batch_size
        life = min(self.config.ema_kimg * 1000, shown * _RAMP)
        keep = 0.5 ** (self.config.batch_size / max(life, 1e-8))
        pairs = list(zip(self.generator.parameters(), self.average.parameters(), strict=True))
        torch._foreach_lerp_([mine for _, mine in pairs], [theirs.detach() for theirs, _ in pairs], 1 - keep)
        for theirs, mine in zip(self.generator.buffers(), self.average.buffers(), strict=True):
            mine.copy_(self.fabric.all_reduce(theirs, reduce_op="mean"))

    def _adapt(self) -> None:
        """Raises or lowers p by the sign heuristic (Karras et al. 2020b, equation 1: r_t)."""
        progress, config = self.progress, self.config
        total = self.fabric.all_reduce(torch.tensor(progress.signs), reduce_op="sum")
        overfitting = float(total[0] / total[1])
        self.losses["overfitting"] = torch.tensor(overfitting)
        if config.ada_target:
            change = ADA_EVERY * config.batch_size / (config.ada_kimg * 1000)
            progress.p = min(MOST, max(0.0, progress.p + math.copysign(change, overfitting - config.ada_target)))
        progress.signs = [0.0, 0.0]

    def _check(self) -> None:
        for name, value in self.losses.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"The {name} loss became {float(value)} in step {self.progress.step}.",
                    expected="finite losses; the last checkpoint and its generator are kept",
                    fix="Start again with another --seed, a lower --learning-rate, a higher --r1, or --precision fp32.",
                )

    def state(self) -> dict[str, Any]:
        """Returns everything that a later step depends on; tensors and plain values only."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "for_generator": self.for_generator.state_dict(),
            "for_discriminator": self.for_discriminator.state_dict(),
            "progress": vars(self.progress),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        for name, value in state.items():
            if name == "progress":
                self.progress = Progress(**value)
            else:
                getattr(self, name).load_state_dict(value)


def _discriminator(
    config: SynthesisConfig, networks: NetworksConfig, fabric: Fabric
) -> Discriminator | ProjectedDiscriminator:
    if config.discriminator == "residual":
        return Discriminator(networks)
    kind = torch.bfloat16 if wants_bf16(config.precision) else torch.float32
    network = seeing(config.projector or preferred(), config.seen_at, networks.channels)
    network = network.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ProjectedDiscriminator(networks, network, kind)


def _learns(network: nn.Module, frozen: tuple[nn.Module, ...]) -> None:
    network.requires_grad_(True)
    for layer in frozen:
        layer.requires_grad_(False)


def phases(config: SynthesisConfig) -> Iterator[tuple[str, int]]:
    """Yields what is shown, and for how many steps: good photographs first, where asked for."""
    if config.good_kimg:
        yield "good", config.steps(config.good_kimg)
    yield config.class_, config.steps(config.kimg)

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

from knowngood.data.copies import seed_of
from knowngood.errors import TrainingError
from knowngood.synthesis.stylegan.augmentations import MOST, augmented
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.discriminators import R1_EVERY, DiscriminatorTraining, adam, make_discriminators
from knowngood.synthesis.stylegan.losses import gradient_penalty, path_lengths, path_penalty
from knowngood.synthesis.stylegan.networks import Generator, mixed

PATH_EVERY, ADA_EVERY = 4, 4  # steps between lazy penalties, and between two checks of overfitting
_PATH_DECAY, _PATH_SHRINK = 0.01, 2
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
    """State of a training besides weights.

    Attributes:
        step: Steps done in all phases.
        p: Probability of the discriminator's augmentation.
        path: Running mean of path lengths.
        signs: Sum of the signs of logits of photographs, and how many, since the last check.
        history: A row a tick.
    """

    step: int = 0
    p: float = 0.0
    path: float = 0.0
    signs: list[float] = field(default_factory=lambda: [0.0, 0.0])
    history: list[dict[str, float]] = field(default_factory=list)


class Training:
    """Generator, its average, discriminators, their optimisers; `step` moves all of them once.

    Args:
        config: Rates and weights.
        networks: Sizes.
        fabric: Devices and arithmetic.
    """

    def __init__(self, config: SynthesisConfig, networks: NetworksConfig, fabric: Fabric) -> None:
        self.config, self.fabric = config, fabric
        torch.manual_seed(config.seed)
        layout: Any = {"memory_format": torch.channels_last}
        self.generator = Generator(networks).to(fabric.device).to(**layout)
        self.discriminators = make_discriminators(config, networks, fabric.device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.for_generator = adam(self.generator, config.learning_rate, PATH_EVERY if config.path_length else 0)
        self.progress = Progress()
        self.losses: dict[str, Tensor] = {}

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
            self._generator_step(len(real), classes)
            if config.path_length and progress.step % PATH_EVERY == 0:
                self._smooth_paths(max(1, len(real) // _PATH_SHRINK), classes)
            self._discriminator_step(real, classes)
        for discriminator in self._at_work():
            if discriminator.r1 and progress.step % R1_EVERY == 0:
                self._penalise(discriminator, real, classes)
        progress.step += 1
        self._average()
        if progress.step % ADA_EVERY == 0:
            self._check()
            self._adapt()

    def _generator_step(self, count: int, classes: Tensor | None) -> None:
        seen = augmented(self.generator.synthesis(self._styles(count, classes)), self.progress.p)
        loss = torch.zeros((), device=seen.device)
        for discriminator in self._at_work():
            discriminator.network.requires_grad_(False)
            loss = loss + discriminator.generator_loss(discriminator.network(seen, classes))
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

    def _discriminator_step(self, real: Tensor, classes: Tensor | None) -> None:
        with torch.no_grad():
            fake = self.generator.synthesis(self._styles(len(real), classes, learn=False))
        p = self.progress.p
        fake, real = augmented(fake, p), augmented(real, p)
        for first, discriminator in enumerate(self._at_work()):
            discriminator.unfreeze()
            on_fake, on_real = discriminator.network.both(fake, real, classes)
            loss = discriminator.discriminator_loss(on_real, on_fake)
            self._move(discriminator.optimiser, discriminator.network, loss)
            self.losses[discriminator.name] = loss.detach()
            if first == 0:
                self.progress.signs[0] += float(on_real.detach().sign().mean()) * len(real)
                self.progress.signs[1] += len(real)

    def _penalise(self, discriminator: DiscriminatorTraining, real: Tensor, classes: Tensor | None) -> None:
        seen = augmented(real, self.progress.p)
        penalty = gradient_penalty(lambda pictures: discriminator.network(pictures, classes), seen)
        self._move(discriminator.optimiser, discriminator.network, penalty * (discriminator.r1 * R1_EVERY))
        self.losses["r1"] = penalty.detach()

    def _at_work(self) -> list[DiscriminatorTraining]:
        return [discriminator for discriminator in self.discriminators if discriminator.joins <= self.progress.step]

    def _styles(self, count: int, classes: Tensor | None, *, learn: bool = True) -> Tensor:
        device, latent = self.fabric.device, self.config.latent
        first = self.generator.styles(torch.randn(count, latent, device=device), classes, learn=learn)
        if not self.config.mixing:
            return first
        second = self.generator.styles(torch.randn(count, latent, device=device), classes)
        return mixed(first, second, self.config.mixing)

    def freeze(self, blocks: int) -> None:
        """Leaves the finest blocks of discriminators as they are from now on (freeze-D, Mo et al. 2020)."""
        for discriminator in self.discriminators:
            discriminator.frozen = tuple(discriminator.network.finest(blocks))

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
            "average": self.average.state_dict(),
            "for_generator": self.for_generator.state_dict(),
            "discriminators": {
                discriminator.name: [discriminator.network.state_dict(), discriminator.optimiser.state_dict()]
                for discriminator in self.discriminators
            },
            "progress": vars(self.progress),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        for name, value in state.items():
            if name == "progress":
                self.progress = Progress(**value)
            elif name in ("discriminators", "judges"):  # "judges" in checkpoints of version 0.1
                for discriminator in self.discriminators:
                    discriminator.network.load_state_dict(value[discriminator.name][0])
                    discriminator.optimiser.load_state_dict(value[discriminator.name][1])
            else:
                getattr(self, name).load_state_dict(value)


def phases(config: SynthesisConfig) -> Iterator[tuple[str, int]]:
    """Yields what is shown, and for how many steps: good photographs first, where asked for."""
    if config.good_kimg:
        yield "good", config.steps(config.good_kimg)
    yield config.class_, config.steps(config.kimg)

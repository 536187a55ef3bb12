"""A trained generator: saved with what its pictures mean, opened again, asked for picture number k."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from knowngood.data.copies import seed_of
from knowngood.errors import ConfigError
from knowngood.files import whole_file, write_json
from knowngood.synthesis.stylegan.config import NetworksConfig
from knowngood.synthesis.stylegan.losses import Square
from knowngood.synthesis.stylegan.networks import Generator

WEIGHTS, FACTS = "generator.safetensors", "generator.json"
VERSION = 1
Pixels = npt.NDArray[np.uint8]


class GeneratorFacts(BaseModel):
    """What is saved beside a generator's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = VERSION
    networks: NetworksConfig
    square: Square
    height: int
    width: int
    label: int
    defect: str | None = None
    defects: tuple[str, ...] = ()
    product: str | None = None
    shown: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator and what its pictures are.

    Attributes:
        network: In eval mode, averaged weights.
        facts: Sizes, label, defects.
    """

    network: Generator
    facts: GeneratorFacts

    def pictures(
        self, seed: int, numbers: Sequence[int], *, truncation: float = 1.0, defects: Sequence[str] | None = None
    ) -> Pixels:
        """Returns pictures as the network makes them; number k depends on the weights, the seed and k alone.

        Args:
            seed: Of latents and noise.
            numbers: Which pictures, N of them.
            truncation: Below 1 nearer to the mean: less varied, fewer broken ones.
            defects: (N,) the defect of each, where the network was trained with defects; drawn evenly by default.

        Returns:
            (N, R, R) uint8, or (N, R, R, 3).

        Raises:
            ConfigError: The network was not trained with this defect.
        """
        classes = self._classes(numbers, defects)
        made = []
        with torch.inference_mode():
            for place, number in enumerate(numbers):  # one by one: sums of a larger batch may differ in the last bit
                z, noise = self._drawn(seed, number)
                known = None if classes is None else classes[place : place + 1]
                made.append(to_pixels(self.network(z, known, truncation=truncation, noise=noise)))
        return np.concatenate(made)

    def defect_of(self, number: int) -> str | None:
        """Returns the defect that picture `number` is asked for."""
        return self.facts.defects[number % len(self.facts.defects)] if self.facts.defects else self.facts.defect

    def _drawn(self, seed: int, number: int) -> tuple[Tensor, list[Tensor]]:
        """Returns z (1, latent) and noise, (1, 1, H, W) a layer, drawn on the CPU whatever the device."""
        generator, device = torch.Generator().manual_seed(seed_of(seed, number)), self.network.mapping.average.device
        z = torch.randn(1, self.facts.networks.latent, generator=generator)
        shapes = self.network.synthesis.noise_shapes()
        return z.to(device), [torch.randn(1, 1, *shape, generator=generator).to(device) for shape in shapes]

    def _classes(self, numbers: Sequence[int], defects: Sequence[str] | None) -> Tensor | None:
        known = self.facts.defects
        if not known:
            return None
        wanted = [self.defect_of(number) for number in numbers] if defects is None else defects
        for name in wanted:
            if name not in known:
                raise ConfigError(f"The generator was not trained with the defect {name!r}.", expected=", ".join(known))
        return torch.tensor([known.index(str(name)) for name in wanted], device=self.network.mapping.average.device)


def to_pixels(pictures: Tensor) -> Pixels:
    """Returns pictures (N, C, R, R), -1..1, as uint8 (N, R, R) or (N, R, R, 3)."""
    made = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(made[:, 0] if made.shape[1] == 1 else made.transpose(0, 2, 3, 1))


def save_generator(network: Generator, facts: GeneratorFacts, folder: Path) -> None:
    """Writes weights, then facts: a folder with facts is whole.

    Raises:
        StorageError: The disk is full; an older generator stays.
    """
    with whole_file(folder / WEIGHTS) as scratch:
        save_file({name: value.contiguous().cpu() for name, value in network.state_dict().items()}, scratch)
    write_json(folder / FACTS, facts.model_dump(mode="json"))


def open_generator(folder: Path) -> TrainedGenerator:
    """Opens what `synthesize train` has left, also of a training that still runs.

    Raises:
        ConfigError: There is none, or it is of another version or other sizes than its weights.
    """
    if not (folder / FACTS).is_file():
        raise ConfigError(
            f"{folder} holds no generator.",
            expected=f"{FACTS} and {WEIGHTS}, from `knowngood synthesize train`",
            fix="Give the folder of a training that has reached its first checkpoint.",
        )
    try:
        document: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if document.get("version") != VERSION:
            raise ConfigError(
                f"The generator in {folder} has version {document.get('version')}.",
                expected=f"version {VERSION}",
                fix="Train it anew with this knowngood.",
            )
        facts = GeneratorFacts.model_validate(document)
        network = Generator(facts.networks)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (ValueError, ValidationError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"The generator in {folder} cannot be opened: {str(error).splitlines()[0]}.",
            fix="Train it anew, or copy the folder again.",
        ) from error
    return TrainedGenerator(network.requires_grad_(False).eval(), facts)

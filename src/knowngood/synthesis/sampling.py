"""Samples of a trained StyleGAN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
from pydantic import BaseModel

from knowngood.data.records import BAD, Records
from knowngood.errors import ConfigError
from knowngood.files import sha256_of
from knowngood.synthesis.config import SamplingParameters
from knowngood.synthesis.generators import Made
from knowngood.synthesis.stylegan.generators import WEIGHTS, TrainedGenerator, open_generator
from knowngood.synthesis.writing import TRAINING_IMAGES, training_images_of


class StyleGan:
    """Draws a latent for each number; pictures come back at the photographs' size."""

    summary: ClassVar[str] = "samples of a StyleGAN, from `knowngood synthesize train`"
    opened_on: ClassVar[Literal["photographs", "run"]] = "run"
    parameters: ClassVar[type[BaseModel]] = SamplingParameters

    def __init__(self, generator: TrainedGenerator, digest: str, learned: pl.DataFrame, notes: tuple[str, ...],
                 parameters: SamplingParameters, seed: int) -> None:  # fmt: skip
        self._generator, self._digest, self.training_images, self.notes = generator, digest, learned, notes
        self._parameters, self._seed = parameters, seed

    @classmethod
    def open(cls, source: Records | Path, parameters: Any, seed: int) -> StyleGan:
        """Returns the generator.

        Raises:
            ConfigError: The folder holds no generator, or it was not trained with this defect.
        """
        assert isinstance(source, Path)
        generator = open_generator(source)
        wanted, known = parameters.defect, generator.facts.defects
        if wanted is not None and wanted not in known:
            raise ConfigError(
                f"The generator in {source} cannot be asked for the defect {wanted!r}.",
                expected=", ".join(known) if known else "a generator that was trained with --by-defect",
                fix="Leave --defect out, or train with --by-defect.",
            )
        learned = training_images_of(source)
        if learned is None:
            raise ConfigError(
                f"{source / TRAINING_IMAGES} is missing: the training images of the generator are not recorded.",
                fix="Finish the training: knowngood synthesize train DATA --out RUN",
            )
        return cls(generator, sha256_of(source / WEIGHTS), learned, generator.facts.notes, parameters, seed)

    @property
    def identity(self) -> dict[str, Any]:
        """Returns the weights and the parameters."""
        return {**self._parameters.model_dump(), "weights": self._digest}

    def make(self, numbers: Sequence[int]) -> list[Made]:
        """Returns the samples of these numbers."""
        facts, wanted = self._generator.facts, self._parameters.defect
        defects = [wanted or self._generator.defect_of(number) for number in numbers]
        asked = [str(name) for name in defects] if facts.defects else None
        truncation = self._parameters.truncation
        pictures = self._generator.pictures(self._seed, numbers, truncation=truncation, defects=asked)
        return [
            Made(
                facts.square.back(picture, facts.height, facts.width),
                facts.label,
                defect if facts.label == BAD else None,
                facts={"truncation": truncation, "kimg": facts.shown / 1000},
            )
            for picture, defect in zip(pictures, defects, strict=True)
        ]

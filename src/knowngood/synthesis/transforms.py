"""Transformed copies of the bad training images as made images: the study's own remedy, behind the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel

from knowngood.data.augmentation import policy_named
from knowngood.data.config import AugmentConfig, names_in
from knowngood.data.copies import copy_of
from knowngood.data.images import decode
from knowngood.data.records import BAD, Records
from knowngood.errors import DataError
from knowngood.synthesis.config import TransformsParameters
from knowngood.synthesis.generators import Made, learned_from
from knowngood.synthesis.transplant import Donor


class Transforms:
    """Copies every bad training image in turn, transformed as `knowngood augment` does."""

    summary: ClassVar[str] = "transformed copies of the bad training images (rotation, shift, light)"
    opened_on: ClassVar[Literal["photographs", "run"]] = "photographs"
    parameters: ClassVar[type[BaseModel]] = TransformsParameters
    notes: tuple[str, ...] = ()

    def __init__(self, donors: Sequence[Donor], learned: pl.DataFrame, parameters: TransformsParameters, seed: int):
        self._donors, self.training_images, self._parameters, self._seed = list(donors), learned, parameters, seed
        self._policy = policy_named(parameters.augment)
        self._order = np.random.default_rng([seed, len(donors)]).permutation(len(donors))

    @classmethod
    def open(cls, source: Records | Path, parameters: Any, seed: int) -> Transforms:
        """Returns the generator.

        Raises:
            DataError: There is no bad training image.
            UnknownNameError: No such policy.
        """
        assert isinstance(source, Records)
        learned = learned_from(source, BAD)
        if not learned.height:
            raise DataError("No bad image is in the training split.", fix="Divide anew with --resplit, or add some.")
        rows = learned.select("image").join(source.frame, on="image", how="left", maintain_order="left")
        donors = [Donor.of_row(row) for row in rows.iter_rows(named=True)]
        return cls(donors, learned, parameters, seed)

    @property
    def identity(self) -> dict[str, Any]:
        """Returns the images and the policy."""
        return {**self._parameters.model_dump(), "images": [donor.sha256 for donor in self._donors]}

    def make(self, numbers: Sequence[int]) -> list[Made]:
        """Returns the copies of these numbers."""
        return [self._make(number) for number in numbers]

    def _make(self, number: int) -> Made:
        donor = self._donors[self._order[number % len(self._order)]]
        pixels = decode(donor.path)
        mask = donor.region(pixels.shape[:2]) if donor.mask is not None else None
        config = AugmentConfig(augment=self._parameters.augment, seed=self._seed)
        copy = copy_of(pixels, mask, donor.boxes, self._policy, config, number)
        drawn = zip(names_in(self._parameters.augment), copy.parameters, strict=True)
        return Made(
            copy.pixels,
            BAD,
            donor.defect,
            copy.mask,
            tuple((box[0], box[1], box[2], box[3]) for box in copy.boxes),
            (donor.image,),
            {name: [round(float(v), 6) for v in values[0]] for name, values in drawn},
        )

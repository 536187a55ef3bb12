"""The contract of image generators and their registry: add one line to `GENERATORS` to register another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel

from knowngood.data.records import BAD, GOOD, Records
from knowngood.errors import DataError
from knowngood.parameters import checked_parameters
from knowngood.registry import Registry


@dataclass(frozen=True, eq=False)
class Made:
    """One made image, with all that is known of it.

    Attributes:
        pixels: uint8 (H, W) or (H, W, 3) RGB, 0..255.
        label: 0 good, 1 bad.
        defect: Type of a bad one, or None where that is not known.
        mask: bool (H, W), where the defect is, or None where that is not known.
        boxes: Of the defects, (x0, y0, x1, y1) in pixels, half-open; empty where they are not known.
        parents: Names (column `image`) of the photographs that it shows parts of, the one that gave the defect first;
            empty for a generator that was trained on many. Where a parent does not train, the image does not either.
        facts: How it was made, as JSON types; the seed and the number are added by who writes it.

    Raises:
        DataError: Shapes, types or values do not go together.
    """

    pixels: npt.NDArray[np.uint8]
    label: int = BAD
    defect: str | None = None
    mask: npt.NDArray[np.bool_] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    parents: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise DataError(f"A made image is {self.pixels.dtype} {shape}.", expected="uint8 (H, W) or (H, W, 3)")
        if self.mask is not None and (self.mask.dtype != np.bool_ or self.mask.shape != shape[:2]):
            raise DataError(f"A made mask is {self.mask.dtype} {self.mask.shape}.", expected=f"bool {shape[:2]}")
        if self.label not in (GOOD, BAD) or (self.label == GOOD and self.defect is not None):
            raise DataError(f"A made image has the label {self.label} and the defect {self.defect!r}.")
        for x0, y0, x1, y1 in self.boxes:
            if not (0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]):
                raise DataError(f"A made box {(x0, y0, x1, y1)} is not inside of {shape[1]} x {shape[0]} pixels.")


class ImageGenerator(Protocol):
    """What makes images. Opened once, on photographs or on a folder; then it makes image number k, any k >= 0.

    A generator promises:

    - image k depends on what it was opened on, its parameters, the seed and k alone, not on what else is made in the
      same call or was made before: it can be made again. (Networks may round by one grey level in other batches.)
    - it uses photographs of the split train and no others, whatever it is opened on;
    - `make` gives one `Made` a number, in their order, all of one colour depth; it writes and prints nothing;
    - `identity` identifies a generator: equal identities and seeds give equal images.
    """

    summary: ClassVar[str]
    opened_on: ClassVar[Literal["photographs", "run"]]  # Records with splits, or the Path of a folder
    parameters: ClassVar[type[BaseModel]]  # frozen; the descriptions of its fields are the command line's help

    @classmethod
    def open(cls, source: Records | Path, parameters: Any, seed: int) -> ImageGenerator:
        """Returns the generator, ready to make.

        Args:
            source: As `opened_on` says. Only photographs of the split train are used.
            parameters: An instance of `cls.parameters`.
            seed: With the number it decides all that is drawn.

        Raises:
            DataError: Nothing can be generated from these.
            ConfigError: The folder holds no such run.
        """
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Returns as JSON types what decides the images besides seed and number (a hash of weights, of the images)."""
        ...

    @property
    def training_images(self) -> pl.DataFrame:
        """Returns the photographs that it was trained on: columns image, sha256 (String), label (UInt8)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns notes for users of the images, such as the licence of the training images."""
        ...

    def make(self, numbers: Sequence[int]) -> list[Made]:
        """Returns the images of these numbers, in their order."""
        ...


GENERATORS: Registry[type[ImageGenerator]] = Registry(
    "generator",
    "knowngood.generators",
    {
        "transplant": "knowngood.synthesis.transplant:Transplant",
        "transforms": "knowngood.synthesis.transforms:Transforms",
        "stylegan": "knowngood.synthesis.sampling:StyleGan",
    },
)


def open_image_generator(name: str, source: Records | Path, seed: int = 0, **parameters: Any) -> ImageGenerator:
    """Returns a registered generator, opened.

    Args:
        name: In `GENERATORS`.
        source: Records with splits, or the folder of a run.
        seed: Of everything drawn.
        **parameters: Fields of the generator's parameters.

    Raises:
        UnknownNameError: No such generator.
        ConfigError: A parameter is impossible, or the generator is opened on the other kind of thing.
        DataError: Nothing can be made of these.
    """
    kind = GENERATORS.get(name)
    wanted = Records if kind.opened_on == "photographs" else Path
    if not isinstance(source, wanted):
        raise DataError(
            f"The generator {name} is opened on {'photographs' if wanted is Records else 'the folder of a run'}.",
            fix=f"See knowngood synthesize --help for what {name} takes.",
        )
    return kind.open(source, checked_parameters(kind.parameters, parameters), seed)


def learned_from(records: Records, *labels: int) -> pl.DataFrame:
    """Returns the `training_images` table of the real, readable training images of these labels, sorted by content."""
    frame = records.frame.filter(
        (pl.col("split") == "train")
        & pl.col("label").is_in(list(labels))
        & ~pl.col("generated")
        & pl.col("error").is_null()
    )
    return frame.sort("sha256", "image").select("image", "sha256", "label")

"""What can be chosen about splits and augmented sets; the descriptions are the command line's help. Imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowngood.errors import UnknownNameError
from knowngood.registry import Registry

if TYPE_CHECKING:
    from knowngood.data.augmentation import Augmentation

AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation",
    "knowngood.augmentations",
    {
        "rotate": "knowngood.data.augmentation:Rotate",
        "shift": "knowngood.data.augmentation:Shift",
        "zoom": "knowngood.data.augmentation:Zoom",
        "flip": "knowngood.data.augmentation:Flip",
        "quarter_turns": "knowngood.data.augmentation:QuarterTurns",
        "brightness": "knowngood.data.augmentation:Brightness",
        "contrast": "knowngood.data.augmentation:Contrast",
        "saturation": "knowngood.data.augmentation:Saturation",
    },
)

POLICIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "study": ("rotate", "shift", "brightness", "contrast", "saturation"),
    "standard": ("rotate", "shift", "flip", "brightness", "contrast", "saturation"),
    "strong": ("rotate", "shift", "zoom", "flip", "quarter_turns", "brightness", "contrast", "saturation"),
}


def names_in(policy: str) -> tuple[str, ...]:
    """Returns the names of a policy's transforms; "a+b" names single transforms.

    Raises:
        UnknownNameError: Neither a policy nor transforms joined with "+".
    """
    names = POLICIES.get(policy, tuple(policy.split("+")))
    if not all(name in AUGMENTATIONS for name in names):
        raise UnknownNameError(
            f"There is no augmentation policy {policy!r}.",
            expected=", ".join(POLICIES) + ", or transforms joined with +: " + ", ".join(AUGMENTATIONS),
        )
    return names


RANGES = ("rotate", "shift", "zoom", "brightness", "contrast", "saturation")


class SplitConfig(BaseModel):
    """How photographs are divided before anything is made of the training split, as `knowngood train` divides them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: float = Field(
        0.25, gt=0, lt=0.9, description="Share of the images for the test, as in train, where the data have no test."
    )
    val: float = Field(0.10, gt=0, lt=0.5, description="Share of the rest for validation, as in train.")
    calibration: float = Field(0.20, gt=0, lt=0.5, description="Share of the rest for calibration, as in train.")
    resplit: bool = Field(False, description="Split the images anew, even where the data come with splits.")
    unit_from: str | None = Field(None, description="As in train: what tells which photographs show the same part.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the splits (as in train) and of everything drawn.")


class AugmentConfig(SplitConfig):
    """Everything that decides which copies are made; saved beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    total: int | None = Field(
        None, ge=1, le=10_000_000, description="Images of the whole set with its copies; a third more if not given."
    )
    class_: Literal["minority", "good", "bad"] = Field(
        "minority", description="Which training images are copied: those of the rarer class, or of this one."
    )
    augment: str = Field("study", description="Transforms: study, standard, strong, or names joined with +.")
    rotate: float | None = Field(None, ge=0, le=180, description="Degrees either way; 3 if not given.")
    shift: float | None = Field(
        None, ge=0, le=0.5, description="Share of width and height, either way; 0.03 if not given."
    )
    zoom: float | None = Field(None, ge=1, le=3, description="Largest factor, in and out; 1.08 if not given.")
    brightness: float | None = Field(None, ge=0, le=0.9, description="Share, either way; 0.15 if not given.")
    contrast: float | None = Field(None, ge=0, le=0.9, description="Share, either way; 0.15 if not given.")
    saturation: float | None = Field(None, ge=0, le=1, description="Share, either way; 0.15 if not given.")
    inside: float = Field(
        0.9, gt=0, le=1, description="Share of a defect's mask or box that must stay in the picture, else drawn again."
    )

    def ranges(self) -> dict[str, float]:
        """Returns the ranges that were given: transform to range."""
        given = {name: getattr(self, name) for name in RANGES}
        return {name: value for name, value in given.items() if value is not None}

"""What can be chosen about judging made images; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from knowngood.data.config import SplitConfig

ALL = "all"


def _listed(value: Any) -> Any:
    """Takes a list from the command line: values with commas between them."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class TrialConfig(BaseModel):
    """How it is measured whether made images help a classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifier: bool = Field(
        False, description="Also measure whether a classifier is better for them: trainings for every seed and arm."
    )
    bads: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("30", "100", "300", ALL),
        min_length=1,
        description="With --classifier: real bad images in the training split, with commas; all is as many as there "
        "are. The test stays whole.",
    )
    seeds: int = Field(3, ge=3, le=100, description="With --classifier: trainings of each arm, paired.")
    preset: Literal["quick", "standard"] = Field(
        "quick", description="With --classifier: quick is a frozen network and an SVM head, standard fine-tuning."
    )
    model: str | None = Field(None, description="With --classifier: network to train; --backbone if not given.")
    epochs: int | None = Field(None, ge=1, le=1000, description="With --classifier: epochs of the preset standard.")
    count: int | None = Field(
        None, ge=1, description="With --classifier: images that each arm adds; as many as there are, 1000 at most."
    )
    also: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(
        (), description="With --classifier: further made sets, with commas: of other makers, or taught on fewer bads."
    )
    augment: str = Field("none", description="With --preset standard: transforms on the fly in every arm.")

    @field_validator("bads")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one != ALL and not (one.isdecimal() and int(one) >= 2):
                raise ValueError(f"{one!r} is neither all nor a number of at least 2")
        return tuple(dict.fromkeys(value))


class JudgeConfig(SplitConfig, TrialConfig):
    """Everything that decides how made images are judged."""

    backbone: str = Field("resnet50", description="Pretrained network in whose features they are judged.")
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(None, ge=32, description="Side in pixels; the network's own if not given.")
    most: int = Field(3000, ge=20, description="Images of each kind that are looked at, at most.")
    native: bool = Field(
        False, description="Compare real images at their own size, not at that of the made ones: resolution counts too."
    )

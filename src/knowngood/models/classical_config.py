"""What can be chosen about conventional classifiers; the field descriptions are the command line's help."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ClassicalConfig(BaseModel):
    """Everything that decides what is fitted and how it is tested."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("resnet50", description="Pretrained network whose penultimate features are used.")
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(
        None, ge=32, le=2048, description="Side in pixels that the network sees; its own if not given."
    )
    classifiers: str | None = Field(None, description="Classifiers, joined with commas; all if not given.")
    folds: int = Field(4, ge=2, le=50, description="Folds of the cross-validation that chooses settings.")
    seeds: int = Field(1, ge=1, le=100, description="How many seeds, each with its own splits.")
    seed: int = Field(0, ge=0, lt=2**31, description="The first seed, of splits and of everything drawn.")
    test: float = Field(0.25, gt=0, lt=0.9, description="As in train: share of the images held out.")
    val: float = Field(0.10, gt=0, lt=0.5, description="As in train; these images are trained on here.")
    calibration: float = Field(0.20, gt=0, lt=0.5, description="As in train: share of the rest that sets scores.")
    resplit: bool = Field(False, description="Split the images anew, even where the data come with splits.")
    unit_from: str | None = Field(None, description="As in train: what tells which photographs show the same part.")

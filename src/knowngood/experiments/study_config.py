"""What can be chosen about a study; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

StudyPreset = Literal["quick", "standard", "paper"]

_STUDY_MODELS = "resnet18,resnet50,wide_resnet50_2,resnext50_32x4d,vgg16"
_DECIDED: dict[str, dict[str, Any]] = {
    "quick": {"seeds": 1, "models": "", "epochs": 0, "compare_size": 96, "limit": 0, "trial_seeds": 0},
    "standard": {
        "seeds": 1,
        "models": "resnet18,resnet50,efficientnet_lite0",
        "epochs": 5,
        "compare_size": 96,
        "limit": 2000,
        "trial_seeds": 3,
    },
    "paper": {
        "seeds": 3,
        "models": f"{_STUDY_MODELS},efficientnet_lite0",
        "epochs": 12,
        "compare_size": 224,
        "limit": 0,
        "trial_seeds": 5,
    },
}


class StudyConfig(BaseModel):
    """Everything that decides what a study does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: StudyPreset = Field(
        "quick",
        description="quick: an inspector, conventional classifiers, the audit; minutes. standard: also networks and "
        "training sets compared, at a size for two cores; hours. paper: as the study did it; wants a GPU.",
    )
    skip: str = Field("", description="Steps to leave out, with commas between them.")
    model: str | None = Field(
        None, description="Network of the inspector and of the features; the best one with weights here if not given."
    )
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(
        None, ge=32, le=2048, description="Side in pixels that this network sees; its own if not given."
    )
    models: str | None = Field(
        None, description="Networks to compare, with commas; the preset's own if not given, none if empty."
    )
    compare_size: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="Side in pixels that the compared networks see; the preset's own if not given.",
    )
    epochs: int | None = Field(
        None, ge=0, le=1000, description="Epochs of each compared network; the preset's own if not given."
    )
    limit: int | None = Field(
        None, ge=0, description="Images that each compared network is trained with at most; 0 for all of them."
    )
    seeds: int | None = Field(
        None, ge=1, le=100, description="Splits and trainings of each comparison; the preset's own if not given."
    )
    trial_seeds: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Seeds of the trial that removes and relabels what is doubted; 0 for no trial, else 3 or more.",
    )
    generated: Path | None = Field(
        None, description="Folder or manifest of generated bad images: they are tried as one more training set."
    )
    escape_budget: float = Field(0.01, gt=0, lt=1, description="Largest escape rate to certify.")
    resplit: bool = Field(False, description="Divide anew, whatever splits the data come with.")
    unit_from: str | None = Field(None, description="As in train: what says which photographs show the same part.")
    seed: int = Field(0, ge=0, lt=2**31, description="First of the seeds.")

    def resolved(self) -> StudyConfig:
        """Returns the same with every field set that the preset decides."""
        missing = {name: value for name, value in _DECIDED[self.preset].items() if getattr(self, name) is None}
        return self.model_copy(update=missing)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of steps to leave out."""
        return tuple(name.strip() for name in self.skip.split(",") if name.strip())

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of networks to compare."""
        return tuple(name.strip() for name in (self.models or "").split(",") if name.strip())

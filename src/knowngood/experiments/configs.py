"""What can be chosen about `compare`, `study`, `audit --test-removal` and `synthesize judge`: the help of the commands.

Imports nothing heavy, so that `--help` answers without torch.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from knowngood.data.config import SplitConfig
from knowngood.training.config import Balance, Freeze, Precision, Preset, TrainConfig

ALL = "all"  # as many bad images as there are
# Fields that may grow in a second call: what is finished is taken over.
GROWS = ("models", "training_sets", "freeze", "balance", "seeds", "generated", "require_pretrained", "classifiers")
STUDY_MODELS = ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "vgg16")


def _listed(value: Any) -> Any:
    """Takes a list from the command line: names with commas between them."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _as_in_training(name: str, description: str | None = None) -> Any:
    """Returns the field of `TrainConfig` of that name: the same default, limits and help."""
    field = copy(TrainConfig.model_fields[name])
    if description is not None:
        field.description = description
    return field


class CompareConfig(BaseModel):
    """Everything that decides what a comparison does: its rows are models x training sets x freeze x balance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        STUDY_MODELS, min_length=1, description="Networks to compare, with commas between them."
    )
    seeds: int = Field(1, ge=1, le=100, description="How many splits and trainings each row gets.")
    training_sets: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("transforms",),
        min_length=1,
        description="Training sets: as-is, transforms, without-outliers, generated, transplant, or several joined "
        "with +.",
    )
    freeze: Annotated[tuple[Freeze, ...], BeforeValidator(_listed)] = Field(
        ("none",), min_length=1, description="Layers that fine-tuning does not change: none, stem, all-but-head."
    )
    balance: Annotated[tuple[Balance, ...], BeforeValidator(_listed)] = Field(
        ("sampling",), min_length=1, description="How class imbalance is handled: sampling, weights, none."
    )
    augment: str = Field(
        "study", description="What the training set transforms does: study, standard, strong, or names joined with +."
    )
    generated: Path | None = Field(None, description="Folder or manifest of images for the training set generated.")
    classifiers: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="Conventional classifiers to put beside them: svm, random_forest, lda, logistic, knn."
    )
    feature_model: str = Field(
        "resnet50",
        description="Pretrained network for the features of conventional classifiers and of without-outliers.",
    )
    limit: int | None = Field(
        None,
        ge=8,
        description="Images to train with at most; validation and calibration shrink with them. All if not given.",
    )
    limit_test: int | None = Field(None, ge=8, description="Test images at most; all if not given.")
    require_pretrained: bool = Field(
        False, description="Refuse a model without ImageNet weights instead of starting it from random ones."
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="Side of the square with as many pixels as each network sees; its own if not given.",
    )
    epochs: int | None = _as_in_training(
        "epochs", "Epochs of each training; those of the preset standard if not given."
    )
    batch_size: int = _as_in_training("batch_size")
    learning_rate: float | None = _as_in_training(
        "learning_rate",
        "Peak learning rate of every model; 3e-5 from pretrained weights and 1e-3 from random ones if not given.",
    )
    weight_decay: float | None = _as_in_training("weight_decay")
    pretrained: bool = _as_in_training("pretrained", "Start from ImageNet weights where there are any.")
    patience: int = _as_in_training("patience")
    precision: Precision = _as_in_training("precision")
    test: float = _as_in_training("test")
    val: float = _as_in_training("val")
    calibration: float = _as_in_training("calibration")
    resplit: bool = _as_in_training("resplit")
    unit_from: str | None = _as_in_training("unit_from")
    escape_budget: float = _as_in_training("escape_budget")
    confidence: float = _as_in_training("confidence")
    seed: int = _as_in_training("seed", "First of the seeds.")
    devices: int = _as_in_training("devices")

    @field_validator("models", "training_sets", "freeze", "balance", "classifiers")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return value


class RemovalConfig(BaseModel):
    """How a removal trial is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(
        5, ge=3, le=100, description="With --test-removal: splits and trainings a change is measured on, paired."
    )
    preset: Preset = Field("quick", description="With --test-removal: preset of the trainings.")
    verdicts: Path | None = Field(
        None, description="With --test-removal: verdicts.csv that a person filled in; they are tried as well."
    )


class TrialConfig(BaseModel):
    """How it is measured whether made images help a classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifier: bool = Field(
        False, description="Also measure whether a classifier is better for them: trainings for every seed and arm."
    )
    bad_counts: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("30", "100", "300", ALL),
        min_length=1,
        description="With --classifier: real bad images in the training split, with commas; all is as many as there "
        "are. The test stays whole.",
    )
    seeds: int = Field(3, ge=3, le=100, description="With --classifier: trainings of each arm, paired.")
    preset: Literal["quick", "standard"] = Field(
        "quick", description="With --classifier: quick is a frozen network and an SVM head, standard fine-tuning."
    )
    classifier_model: str | None = Field(None, description="With --classifier: network to train; --model if not given.")
    epochs: int | None = Field(None, ge=1, le=1000, description="With --classifier: epochs of the preset standard.")
    count: int | None = Field(
        None, ge=1, description="With --classifier: images that each arm adds; as many as there are, 1000 at most."
    )
    also: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(
        (),
        description="With --classifier: further made sets, with commas: of other generators, or trained on fewer bads.",
    )
    augment: str = Field("none", description="With --preset standard: transforms on the fly in every arm.")

    @field_validator("bad_counts")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one != ALL and not (one.isdecimal() and int(one) >= 2):
                raise ValueError(f"{one!r} is neither all nor a number of at least 2")
        return tuple(dict.fromkeys(value))


class JudgeConfig(SplitConfig, TrialConfig):
    """Everything that decides how made images are judged."""

    model: str = Field("resnet50", description="Pretrained network in whose features they are judged.")
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(None, ge=32, description="Side in pixels; the network's own if not given.")
    most: int = Field(3000, ge=20, description="Images of each kind that are looked at, at most.")
    native: bool = Field(
        False, description="Compare real images at their own size, not at that of the made ones: resolution counts too."
    )


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
    "best": {
        "seeds": 3,
        "models": ",".join([*STUDY_MODELS, "efficientnet_lite0"]),
        "epochs": 12,
        "compare_size": 224,
        "limit": 0,
        "trial_seeds": 5,
    },
}


class StudyConfig(BaseModel):
    """Everything that decides what a study does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Field(
        "quick",
        description="quick: an inspector, conventional classifiers, the audit; minutes. standard: also networks and "
        "training sets compared, at a size for two cores; hours. best: as the study did it; wants a GPU.",
    )
    skip: str = Field("", description="Steps to leave out, with commas between them.")
    model: str | None = Field(
        None, description="Network of the inspector and of the features; the best one with weights here if not given."
    )
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="Side in pixels that this network sees; if not given, chosen for the inspector, "
        "the network's own elsewhere.",
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
        description="Seeds of the trial that removes and relabels the suspects; 0 for no trial, else 3 or more.",
    )
    generated: Path | None = Field(
        None, description="Folder or manifest of generated bad images: they are tried as one more training set."
    )
    escape_budget: float = Field(0.01, gt=0, lt=1, description="Largest escape rate to certify.")
    resplit: bool = Field(False, description="Split the images anew, even where the data come with splits.")
    unit_from: str | None = Field(None, description="As in train: what tells which photographs show the same part.")
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

"""What can be chosen about a comparison; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from knowngood.training.config import Balance, Freeze, Precision, TrainConfig

# Fields that may grow in a second call: what is finished is taken over.
GROWS = ("models", "variants", "freeze", "balance", "seeds", "generated", "require_pretrained", "conventional")
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
    """Everything that decides what a comparison does: its rows are models x variants x freeze x balance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        STUDY_MODELS, min_length=1, description="Networks to compare, with commas between them."
    )
    seeds: int = Field(1, ge=1, le=100, description="How many splits and trainings each row gets.")
    variants: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("transforms",),
        min_length=1,
        description="Training sets: as-is, transforms, without-outliers, generated, transplant, or several joined "
        "with +.",
    )
    freeze: Annotated[tuple[Freeze, ...], BeforeValidator(_listed)] = Field(
        ("none",), min_length=1, description="What stays as it came: none, stem, all-but-head."
    )
    balance: Annotated[tuple[Balance, ...], BeforeValidator(_listed)] = Field(
        ("sampling",), min_length=1, description="How imbalance is met: sampling, weights, none."
    )
    augment: str = Field(
        "study", description="What the variant transforms does: study, standard, strong, or names joined with +."
    )
    generated: Path | None = Field(None, description="Folder or manifest of images for the variant generated.")
    conventional: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="Conventional classifiers to put beside them: svm, random_forest, lda, logistic, knn."
    )
    outlier_backbone: str = Field(
        "resnet50",
        description="Pretrained network whose features conventional classifiers and the variant without-outliers see.",
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
    image_size: int | None = _as_in_training("image_size")
    epochs: int | None = _as_in_training(
        "epochs", "Epochs of each training; those of the preset standard if not given."
    )
    batch_size: int = _as_in_training("batch_size")
    learning_rate: float | None = _as_in_training(
        "learning_rate",
        "Peak learning rate of every model; 3e-5 from pretrained weights and 1e-3 from random ones if not given.",
    )
    weight_decay: float = _as_in_training("weight_decay")
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

    @field_validator("models", "variants", "freeze", "balance", "conventional")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return value

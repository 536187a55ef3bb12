"""What can be chosen about a training; the field descriptions are the command line's help. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from knowngood.data.config import SplitConfig, names_in
from knowngood.registry import Registry

if TYPE_CHECKING:
    from knowngood.models.classical import Conventional

Preset = Literal["quick", "standard", "best"]
Freeze = Literal["none", "stem", "all-but-last-stage", "all-but-head"]
ImageSize: TypeAlias = Annotated[int, Field(ge=32, le=2048)] | Literal["auto", "own"]
Balance = Literal["sampling", "weights", "none"]
Precision = Literal["auto", "bf16", "fp32"]

_ONE_CLASS = ("detector", "coreset_size", "overkill_budget")  # options that say nothing without it


class TrainConfig(BaseModel):
    """Everything that decides what a training does; saved with the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        None, description="Network to train; the best one with weights on this machine if not given."
    )
    preset: Preset = Field(
        "quick",
        description="quick: heads on a frozen network, minutes. standard: all layers fine-tuned. "
        "best: both, longer, combined.",
    )
    epochs: int | None = Field(
        None, ge=0, le=1000, description="Epochs of fine-tuning, 0 for none; the preset's own if not given."
    )
    image_size: ImageSize = Field(
        "auto",
        description="Side of the square with as many pixels as the network sees; proportions are kept. auto: "
        "cross-validation chooses, up to the photographs' own. own: the network's.",
    )
    head: Literal["cells", "pooled"] = Field(
        "cells",
        description="cells: one logit a place and kind of defect, so that the map is the score; on a frozen network "
        "beside an SVM. pooled: averages over the photograph alone, an SVM on a frozen network, a linear layer on a "
        "fine-tuned one.",
    )
    views: int = Field(
        1,
        ge=1,
        le=8,
        description="Views of each photograph whose scores and maps are averaged: 4 mirrors it, 8 turns it as well; "
        "so many times the seconds.",
    )
    batch_size: int = Field(32, ge=2, le=4096, description="Images a step.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak learning rate of fine-tuning (AdamW); 1e-4 from pretrained weights (pooled: 3e-5), 1e-3 from "
        "random ones.",
    )
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Weight decay of fine-tuning; 0.05 (pooled: 0.02) if not given."
    )
    balance: Balance = Field(
        "sampling",
        description="How class imbalance is handled: as many bad as good in every batch, weights in the loss, or not.",
    )
    freeze: Freeze = Field(
        "none", description="Layers that fine-tuning does not change: none, the stem, or all but the head."
    )
    augment: str = Field(
        "standard",
        description="Transforms in training: none, study, standard, strong, or names joined with +.",
    )
    pretrained: bool = Field(True, description="Start from ImageNet weights.")
    weights: Path | None = Field(None, description="File or folder with the weights to start from.")
    patience: int = Field(6, ge=1, description="Epochs without a better validation AUC before stopping.")
    precision: Precision = Field(
        "auto", description="Arithmetic of training; auto takes bf16 where the machine has it in hardware."
    )
    roi: str | None = Field(
        None,
        description="Region of interest x0,y0,x1,y1 (several joined with ;): fractions of the photograph, or pixels "
        "if a number is above 1. Nothing outside it counts.",
    )
    mask_leads: bool = Field(
        False, description="Merge the leads with their surroundings; defects of leads are then not seen."
    )
    verdicts: Path | None = Field(
        None, description="verdicts.csv of an audit, filled in by a person: labels to correct, images to drop."
    )
    without: Path | None = Field(
        None, description="audit.parquet of an audit: its outliers are left out of the training split."
    )
    test: float = Field(0.25, gt=0, lt=0.9, description="Share of the images held out for the final figures.")
    val: float = Field(0.10, gt=0, lt=0.5, description="Share of the rest that chooses epoch and settings.")
    calibration: float = Field(0.20, gt=0, lt=0.5, description="Share of the rest that sets scores and thresholds.")
    resplit: bool = Field(False, description="Split the images anew, even where the data come with splits.")
    unit_from: str | None = Field(
        None,
        description="What says which photographs show the same part, so that they are never divided: a regex on the "
        "images' names (its group unit, or first group), a column of the manifest, or none: near copies only.",
    )
    escape_budget: float = Field(0.01, gt=0, lt=1, description="Largest escape rate to certify.")
    one_class: bool = Field(
        False, description="Train on good images alone; bad ones are only tested. The escape rate is then unknown."
    )
    detector: Literal["patch_memory", "knn"] = Field(
        "patch_memory",
        description="With --one-class: patch_memory compares patches and draws maps and boxes, knn whole images.",
    )
    coreset_size: int = Field(
        4000, ge=10, le=100_000, description="With --one-class: most patches (knn: images) in the coreset."
    )
    overkill_budget: float = Field(
        0.01, gt=0, lt=1, description="With --one-class: largest overkill to certify, on held-out good images."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the certificate.")
    review_overkill: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="With it, scores between accept and a reject threshold of this overkill go to review.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of splits, sampling, augmentation and new layers.")
    cam_history: Path | None = Field(
        None,
        description="Photograph, or folder of photographs (16 at most), whose CAMs are kept before training and "
        "after each epoch of fine-tuning.",
    )
    devices: int = Field(1, ge=1, le=64, description="GPUs (or CPU processes where there is none) to fine-tune on.")

    @field_validator("roi")
    @classmethod
    def _names_boxes(cls, roi: str | None) -> str | None:
        if roi is not None:
            from knowngood.data.preprocessing import parse_roi

            parse_roi(roi)
        return roi

    @model_validator(mode="after")
    def _something_to_train(self) -> TrainConfig:
        if self.preset == "standard" and self.epochs == 0:
            raise ValueError("the preset standard is fine-tuning alone: it needs --epochs of at least 1")
        if self.freeze != "none" and not self.pretrained:
            raise ValueError("layers with random weights are not worth freezing: leave --freeze or --no-pretrained out")
        if self.freeze != "none" and not self.fine_tuning_epochs:
            raise ValueError("--freeze is about fine-tuning: it needs --preset standard or best, or --epochs")
        if self.views not in (1, 4, 8):
            raise ValueError(f"--views is {self.views}; it takes 1, 4 or 8")
        turns = {4: "flip", 8: "quarter_turns"}.get(self.views)
        if turns is not None and turns not in names_in(self.augment):
            raise ValueError(f"--views {self.views} needs an --augment with {turns}, such as strong")
        if self.cam_history is not None and not self.fine_tuning_epochs:
            raise ValueError("--cam-history records fine-tuning: it needs --preset standard or best, or --epochs")
        if self.cam_history is not None and self.devices > 1:
            raise ValueError("--cam-history records a training in one process: leave --devices out")
        return self

    @model_validator(mode="after")
    def _goes_with_one_class(self) -> TrainConfig:
        if not self.one_class:
            given = {name for name in _ONE_CLASS if getattr(self, name) != type(self).model_fields[name].default}
            if given:
                flags = ", ".join("--" + name.replace("_", "-") for name in sorted(given))
                raise ValueError(f"{flags} means something with --one-class only")
            return self
        if self.head != "cells" or self.views != 1:
            raise ValueError("--one-class has a head of its own and one view: leave --head and --views out")
        if self.preset != "quick" or self.epochs:
            raise ValueError("--one-class fine-tunes nothing: leave --preset and --epochs out")
        if self.review_overkill is not None and self.review_overkill >= self.overkill_budget:
            raise ValueError("with --one-class, --review-overkill has to be below --overkill-budget")
        return self

    @property
    def side(self) -> int | None:
        """Side in pixels that was asked for, if one was."""
        return self.image_size if isinstance(self.image_size, int) else None

    @property
    def fine_tuning_epochs(self) -> int:
        """Epochs that the preset fine-tunes when the user says nothing."""
        return self.epochs if self.epochs is not None else {"quick": 0, "standard": 8, "best": 12}[self.preset]


CLASSIFIERS: Registry[type[Conventional]] = Registry(
    "conventional classifier",
    "knowngood.classifiers",
    {
        "svm": "knowngood.models.classical:Svm",
        "random_forest": "knowngood.models.classical:Forest",
        "lda": "knowngood.models.classical:Lda",
        "logistic": "knowngood.models.classical:Logistic",
        "knn": "knowngood.models.classical:Neighbours",
    },
)


class ClassicalConfig(SplitConfig):
    """Everything that decides which conventional classifiers are fitted on deep features, and how they are tested."""

    model: str = Field("resnet50", description="Pretrained network whose penultimate features are used.")
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(
        None, ge=32, le=2048, description="Side in pixels that the network sees; its own if not given."
    )
    classifiers: str | None = Field(None, description="Classifiers, joined with commas; all if not given.")
    folds: int = Field(4, ge=2, le=50, description="Folds of the cross-validation that chooses settings.")
    seeds: int = Field(1, ge=1, le=100, description="How many seeds, each with its own splits.")
    seed: int = Field(0, ge=0, lt=2**31, description="The first seed, of splits and of everything drawn.")
    val: float = Field(0.10, gt=0, lt=0.5, description="As in train; here these images train too: folds choose.")

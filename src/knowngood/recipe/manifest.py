"""What recipe.json holds; validated when read, sealed with a hash so that a flipped byte is noticed."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from knowngood.data.preprocessing import Preprocessing
from knowngood.decide.calibration import Calibration
from knowngood.models.classifier import NetworkConfig
from knowngood.recipe.input_check import InputFacts
from knowngood.recipe.sealed import CertifiedCuts, Sha256, seal

__all__ = ["FORMAT", "RecipeManifest", "seal"]

FORMAT = 3  # raised when an older knowngood could no longer read what is written
_SINCE = {  # fields that older formats do not have
    "preprocessing": 2,
    "evidence_sha256": 3,
    "parent": 3,
    "input_check": 3,
}
_MEMORIES = ("patch_memory", "knn")

Line = Annotated[str, Field(max_length=255)]
Text = Annotated[str, Field(max_length=4096)]


class RecipeManifest(BaseModel):
    """Everything of a recipe but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    kind: Literal["classifier", "one-class"] = Field(
        "classifier", description="What sort of inspector this is: trained on both classes, or on good images alone."
    )
    name: Line = Field(description="Name for people; the run's folder unless given.")
    created: Line = Field(description="When, ISO 8601 with zone.")
    classes: tuple[Line, Line] = Field(("good", "bad"), description="Classes; the second is positive.")
    networks: tuple[NetworkConfig, ...] = Field(min_length=1, max_length=16, description="Members of the inspector.")
    preprocessing: Preprocessing = Field(
        default_factory=Preprocessing, description="What is done to a photograph before it is brought to size."
    )
    calibration: Calibration = Field(description="Raw score to defect score.")
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`: the cuts and how they were set.")
    metrics: dict[Line, Any] = Field(max_length=16, description="Figures of each split at the time of training.")
    seed: int = Field(ge=0, lt=2**63, description="Seed of the training.")
    config: dict[Line, Any] = Field(max_length=1000, description="Resolved configuration of the training.")
    data: dict[Line, Any] = Field(
        max_length=100, description="Source, counts, hash of the data that it was trained on."
    )
    licences: tuple[Text, ...] = Field(
        (), max_length=100, description="Terms that come with the data and the starting weights."
    )
    provenance: dict[Line, Text] = Field(max_length=100, description="Origin of the starting weights.")
    versions: dict[Line, Line] = Field(max_length=1000, description="Package to version.")
    weights_sha256: str = Field(max_length=64, description="Of weights.safetensors.")
    evidence_sha256: Sha256 | None = Field(
        None, description="Of evidence.safetensors: calibration scores, hashes of the images learned from; if there."
    )
    parent: Line | None = Field(None, description="Revision of the recipe that this one was made of with other cuts.")
    input_check: InputFacts | None = Field(
        None, description="What was learned of the photographs themselves; None for a recipe that compares nothing."
    )

    @property
    def revision(self) -> str:
        """First 12 hex digits of the seal: names this exact recipe in every row that it scores."""
        return seal(self.document())[:12]

    @property
    def kernels_alone(self) -> bool:
        """Whether all heads are SVM heads: these learn from the validation images as well."""
        return all(one.head == "kernel" for one in self.networks)

    def document(self) -> dict[str, Any]:
        """Returns what is saved and sealed; of an older recipe exactly what it was sealed with."""
        newer = {name for name, version in _SINCE.items() if self.format < version}
        return self.model_dump(mode="json", exclude=newer)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> RecipeManifest:
        """Returns the manifest that a document without its seal holds, its types as they stand.

        Raises:
            ValueError: A field is missing, unknown, of another type or out of its range, or fields do not go together.
        """
        return cls.model_validate_json(json.dumps(document), strict=True)

    @model_validator(mode="after")
    def _heads_that_can_score(self) -> RecipeManifest:
        """Refuses heads that do not suit the kind of recipe: networks of one kind fail in the other's maps."""
        for one in self.networks:
            if (one.head in _MEMORIES) != (self.kind == "one-class"):
                raise ValueError(f"a head {one.head!r} in a recipe of kind {self.kind!r}")
        return self

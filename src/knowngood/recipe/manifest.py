"""What recipe.json holds; validated when read, sealed with a hash so that a flipped byte is noticed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowngood.data.preprocessing import Preprocessing
from knowngood.decide.calibration import Calibration
from knowngood.models.classifier import NetworkConfig
from knowngood.recipe.sealed import seal

__all__ = ["FORMAT", "RecipeManifest", "seal"]

FORMAT = 2  # raised when an older knowngood could no longer read what is written; 2 has preprocessing


class RecipeManifest(BaseModel):
    """Everything of a recipe but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, ge=1, description="Version of this layout.")
    kind: Literal["classifier", "one-class"] = Field(
        "classifier", description="What sort of inspector this is: taught by both classes, or by good images alone."
    )
    name: str = Field(description="Name for people; the run's folder unless given.")
    created: str = Field(description="When, ISO 8601 with zone.")
    classes: tuple[str, str] = Field(("good", "bad"), description="Classes; the second is positive.")
    networks: tuple[NetworkConfig, ...] = Field(min_length=1, description="Members of the inspector.")
    preprocessing: Preprocessing = Field(
        default_factory=Preprocessing, description="What is done to a photograph before it is brought to size."
    )
    calibration: Calibration = Field(description="Margin to defect score.")
    threshold: dict[str, Any] = Field(description="`Threshold.to_dict()`: the cuts and how they were set.")
    metrics: dict[str, Any] = Field(description="Figures of each split at the time of training.")
    seed: int = Field(description="Seed of the training.")
    config: dict[str, Any] = Field(description="Resolved configuration of the training.")
    data: dict[str, Any] = Field(description="Source, counts and hash of the data that it was trained on.")
    licences: tuple[str, ...] = Field((), description="Terms that come with the data and the starting weights.")
    provenance: dict[str, str] = Field(description="Origin of the starting weights.")
    versions: dict[str, str] = Field(description="Package to version.")
    weights_sha256: str = Field(description="Of weights.safetensors.")

    @property
    def revision(self) -> str:
        """First 12 hex digits of the seal: names this exact recipe in every row that it scores."""
        return seal(self.document())[:12]

    @property
    def kernels_alone(self) -> bool:
        """Whether all heads are kernel heads: these learn from the validation images as well."""
        return all(one.head == "kernel" for one in self.networks)

    def document(self) -> dict[str, Any]:
        """Returns what is saved and sealed; of an older recipe exactly what it was sealed with."""
        return self.model_dump(mode="json", exclude={"preprocessing"} if self.format < 2 else None)

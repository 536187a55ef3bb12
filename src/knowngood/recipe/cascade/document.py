"""What cascade.json holds: which two networks, in which runtimes, the rule, and what it is proven to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowngood.errors import RecipeError
from knowngood.recipe.sealed import CertifiedCuts, SealedDocument

FOLDER, DOCUMENT, STUDENT = "cascade", "cascade.json", "student"
FORMAT = 1


class Part(BaseModel):
    """One of the two networks, as it was when the cascade was certified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str = Field(max_length=255, description="Names recipe and graph.")
    runtime: str = Field(max_length=64, description="What computed it.")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="What its convolutions are computed in.")


class CascadeDocument(SealedDocument):
    """Everything of a cascade but its networks."""

    format: int = Field(FORMAT, ge=1, le=1000, description="Version of this layout.")
    created: str = Field(max_length=255, description="When, ISO 8601 with zone.")
    large: Part = Field(description="The recipe's own network.")
    student: Part = Field(description="The small one.")
    certainty: float = Field(gt=0, le=1, description="The student accepts below this share of the threshold.")
    low: float = Field(ge=0, le=1, description="Student's score below which it accepts.")
    high: float = Field(ge=0, le=2, description="Student's score from which it rejects; above 1 for never.")
    threshold: CertifiedCuts = Field(description="`Threshold.to_dict()`, certified on decisions of the whole.")
    figures: dict[str, Any] = Field(description="What was measured on each split.")

    @property
    def revision(self) -> str:
        """Names both networks and the rule in every row that is scored."""
        return f"{self.large.revision}+cascade-{self.stamp}"

    def save(self, folder: Path) -> None:
        """Writes cascade.json."""
        self.save_as(folder / DOCUMENT)

    @classmethod
    def load(cls, folder: Path) -> CascadeDocument:
        """Reads a cascade and checks that it is as it was saved.

        Raises:
            RecipeError: It is missing or damaged.
        """
        try:
            return cls.read(folder / DOCUMENT)
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"The cascade {folder} is damaged: {error}.",
                expected="what `knowngood cascade` saved",
                fix="Make it again with `knowngood cascade RUN`, or score with --no-cascade.",
            ) from error

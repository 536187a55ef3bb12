"""What cascade.json holds: which two networks, in which runtimes, the rule, and what it is proven to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowngood.decide.threshold import Thresholds
from knowngood.errors import RecipeError
from knowngood.files import write_json
from knowngood.recipe.manifest import seal

FOLDER, DOCUMENT, STUDENT = "cascade", "cascade.json", "student"
FORMAT = 1


class Part(BaseModel):
    """One of the two networks, as it was when the cascade was certified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str = Field(description="Names recipe and graph.")
    runtime: str = Field(description="What computed it.")
    precision: str = Field(description="fp32, bf16 or int8.")


class CascadeDocument(BaseModel):
    """Everything of a cascade but its networks; sealed like a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, ge=1, description="Version of this layout.")
    created: str = Field(description="When, ISO 8601 with zone.")
    large: Part = Field(description="The recipe's own network.")
    student: Part = Field(description="The small one.")
    certainty: float = Field(gt=0, le=1, description="The student accepts below this share of the threshold.")
    low: float = Field(ge=0, le=1, description="Student's score below which it accepts.")
    high: float = Field(ge=0, description="Student's score from which it rejects; above 1 for never.")
    threshold: dict[str, Any] = Field(description="`Threshold.to_dict()`, certified on decisions of the whole.")
    figures: dict[str, Any] = Field(description="What was measured on each split.")

    @property
    def thresholds(self) -> Thresholds:
        """The two cuts between accept, review and reject, on scores of the whole."""
        return Thresholds(self.threshold["threshold"], self.threshold["reject_from"])

    @property
    def revision(self) -> str:
        """Names both networks and the rule in every row that is scored."""
        return f"{self.large.revision}+cascade-{seal(self.model_dump(mode='json'))[:8]}"

    def save(self, folder: Path) -> None:
        """Writes cascade.json."""
        document = self.model_dump(mode="json")
        write_json(folder / DOCUMENT, document | {"seal": seal(document)})

    @classmethod
    def load(cls, folder: Path) -> CascadeDocument:
        """Reads a cascade and checks that it is as it was saved.

        Raises:
            RecipeError: It is missing or damaged.
        """
        path = folder / DOCUMENT
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            stamp = held.pop("seal", None)
            if stamp != seal(held):
                raise ValueError("its contents are not those that were saved")
            return cls.model_validate(held)
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            raise RecipeError(
                f"The cascade {folder} is damaged: {error}.",
                expected="what `knowngood cascade` saved",
                fix="Make it again with `knowngood cascade RUN`, or score with --no-cascade.",
            ) from error

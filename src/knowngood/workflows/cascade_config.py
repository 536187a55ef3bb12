"""What can be chosen about a cascade; the field descriptions are the command line's help. Imports nothing heavy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CascadeConfig(BaseModel):
    """How a student is taught and how much it may decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: str = Field("efficientnet_lite0", description="Network of the student.")
    student_size: int = Field(128, ge=32, le=1024, description="Side in pixels at which the student sees images.")
    student_epochs: int = Field(
        0,
        ge=0,
        le=1000,
        description="Epochs of the student's fine-tuning on the large network's scores; with 0 it is frozen and gets a "
        "SVM head, which needs fewer images.",
    )
    certainty: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The student accepts below this share of the threshold; chosen on validation images if not given.",
    )
    overkill_loss: float = Field(
        0.005, ge=0, lt=1, description="Share of the good units that the student may reject on its own account."
    )

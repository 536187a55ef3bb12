"""What can be chosen about a removal trial; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from knowngood.training.config import Preset


class RemovalConfig(BaseModel):
    """How a removal trial is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(
        5, ge=3, le=100, description="With --test-removal: splits and trainings a change is measured on, paired."
    )
    train_preset: Preset = Field("quick", description="With --test-removal: preset of the trainings.")
    verdicts: Path | None = Field(
        None, description="With --test-removal: verdicts.csv that a person filled in; they are tried as well."
    )

"""A look-alike of real parts in carrier tape, drawn from numbers, with the truth about every pixel known."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

GENERATOR_VERSION = 2  # goes up when the same seed gives other bytes: cached sets of older versions are not reused


class TapeConfig(BaseModel):
    """Everything that decides what is drawn; saved beside the pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int = Field(30_000, ge=0, le=10_000_000, description="Training images.")
    test: int = Field(3_000, ge=0, le=10_000_000, description="Test images.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed: the same one draws the same bytes.")
    family: Literal["sod", "sot23", "mixed"] = Field(
        "sod", description="Package family: sod (224x224, two leads), sot23 (275x267, three), or mixed: half and half."
    )
    bad_rate: float = Field(0.1, ge=0, le=1, description="Share of the units that are bad.")
    label_noise: float = Field(
        0.01, ge=0, le=0.5, description="Share of the units labelled good that are really bad, faint defects first."
    )
    abnormal: float = Field(
        0.002, ge=0, le=1, description="Share of abnormal pictures: burnt out, wrong cell, empty frame, strong blur."
    )
    lots: int = Field(40, ge=1, le=100_000, description="Lots; they differ in product, marking and brightness.")
    machines: int = Field(6, ge=1, le=10_000, description="Machines; they differ in gain, blur and framing.")
    difficulty: float = Field(
        0.2, ge=0, le=1, description="How faint defects are: 0 all glaring, 1 most nearly invisible."
    )
    drift: float = Field(
        0.0, ge=0, le=1, description="How unlike the first batch the later one is: light, floor, lasers, particles."
    )
    drift_on: Literal["test", "all"] = Field("test", description="Which images are of the later batch.")
    twins: bool = Field(False, description="Also write each bad unit's twin: the same picture without its defects.")
    masks: bool = Field(True, description="Write masks of defects, and of leads, body and tape.")

    def drift_of(self, split: str) -> float:
        """Strength of the drift in one split."""
        return self.drift if split == "test" or self.drift_on == "all" else 0.0

"""What can be chosen about generators; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Blend = Literal["poisson", "feather"]


class TransformsParameters(BaseModel):
    """What decides a transformed copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    augment: str = Field("study", description="Transforms: study, standard, strong, or names joined with +.")


class TransplantParameters(BaseModel):
    """What decides a transplant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blend: Blend = Field(
        "poisson", description="poisson: brightness at the edge from the good image. feather: mixed over the edge."
    )
    margin: int = Field(3, ge=0, le=50, description="Pixels around the defect that are pasted with it.")
    shift: float = Field(0.03, ge=0, le=0.5, description="Shift from its own place, share of the sides, either way.")
    rotate: float = Field(5.0, ge=0, le=180, description="Rotation of the defect in degrees, either way.")
    zoom: float = Field(1.15, ge=1, le=3, description="Largest factor of its size, up and down.")
    flip: bool = Field(False, description="Also mirror the defect, left to right.")
    largest: float = Field(
        0.5, gt=0, le=1, description="Defects that cover a larger share of their image are not used: that copies it."
    )


class SamplingParameters(BaseModel):
    """What can be chosen about samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    truncation: float = Field(
        1.0, gt=0, le=2, description="Below 1 samples are nearer to the mean: less varied, fewer broken ones."
    )
    defect: str | None = Field(
        None, description="Only samples of this defect, where the generator was trained with --by-defect."
    )

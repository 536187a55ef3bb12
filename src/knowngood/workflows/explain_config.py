"""What can be chosen about `explain`; the field descriptions are the command line's help. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExplainConfig(BaseModel):
    """Everything that decides which maps are made and how they are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(
        "auto",
        description="Way of making maps: auto (CAM where the network has it, else HiResCAM, its equal there), cam, "
        "gradcam, gradcam++, layercam, hirescam, eigencam.",
    )
    layers: str = Field(
        "last",
        description="last: the recipe's own map. all: also a strip of every stage of its first network. Or names of "
        "layers, with commas.",
    )
    fraction: float = Field(
        0.4, gt=0, lt=1, description="Boxes surround connected places above this share of the map's maximum."
    )
    scale: Literal["shared", "image"] = Field(
        "shared",
        description="shared: one scale of colours for all pictures, so that they can be compared. image: each picture "
        "its own, to see where a weak map is hottest.",
    )
    raw: bool = Field(False, description="Also write the raw maps, as .npy of float32 at the photographs' own size.")

"""What can be chosen about `cascade`, `explain` and `synthesize`; the field descriptions are the help of the command.

Imports nothing heavy, so that `--help` answers without torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from knowngood.data.config import SplitConfig
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.stylegan.config import SynthesisConfig


class CascadeConfig(BaseModel):
    """How a student is trained and how much it may decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student_model: str = Field("efficientnet_lite0", description="Network of the student.")
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
    cam_threshold: float = Field(
        0.4, gt=0, lt=1, description="Boxes surround connected places above this share of the map's maximum."
    )
    scale: Literal["shared", "image"] = Field(
        "shared",
        description="shared: one scale of colours for all pictures, so that they can be compared. image: each picture "
        "its own, to see where a weak map is hottest.",
    )
    raw: bool = Field(False, description="Also write the raw maps, as .npy of float32 at the photographs' own size.")


class TransplantConfig(TransplantParameters, SplitConfig):
    """What can be chosen about a set of transplants."""


class GeneratorConfig(SynthesisConfig, SplitConfig):
    """What can be chosen about a StyleGAN and the photographs it learns from."""

    allow_few_images: bool = Field(False, description="Train on fewer than 20 photographs, which are then repeated.")

"""Parameters of `predict` and `export`; the field descriptions are the command line's help. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from knowngood.registry import Registry
from knowngood.scale.config import ClusterConfig

if TYPE_CHECKING:
    from knowngood.recipe.runtimes import Kind


class EngineConfig(ClusterConfig):
    """Where photographs are scored."""

    any_product: bool = Field(
        False, description="Decide by the score alone what does not look like the recipe's own photographs."
    )
    cascade: bool = Field(True, description="Use the recipe's cascade, if it has one and --runtime is auto.")


class Tolerance(BaseModel):
    """Measured on images that the recipe has not learned from; saved with the export."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_score: float = Field(0.05, ge=0, le=1, description="Mean difference of scores that is allowed.")
    max_auc_loss: float = Field(
        0.001, ge=0, le=1, description="Loss of AUC that is allowed, beside one pair out of order."
    )
    min_correlation: float = Field(
        0.995, ge=-1, le=1, description="Least correlation of raw scores, the scores before calibration."
    )
    max_overkill: float = Field(
        0.01, ge=0, le=1, description="More overkill at the certified threshold that is allowed, beside one image."
    )
    min_likeness: float = Field(0.9, ge=-1, le=1, description="Least correlation of the maps.")


# Here, and not beside the runtimes, so that a wrong --runtime is found without torch.
RUNTIMES: Registry[Kind] = Registry(
    "runtime",
    "knowngood.runtimes",
    {
        "openvino": "knowngood.recipe.runtimes:OPENVINO",
        "onnxruntime": "knowngood.recipe.runtimes:ONNXRUNTIME",
        "torch": "knowngood.recipe.runtimes:TORCH",
    },
)

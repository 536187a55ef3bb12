"""What can be chosen about a set with made images; descriptions are the command line's help. Imports little."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.stylegan.config import SynthesisConfig


class Division(BaseModel):
    """How photographs are divided before anything is made of the training part; as `knowngood train` divides them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: float = Field(0.25, gt=0, lt=0.9, description="As in train: share held out, where the data bring no test.")
    val: float = Field(0.10, gt=0, lt=0.5, description="As in train.")
    calibration: float = Field(0.20, gt=0, lt=0.5, description="As in train.")
    resplit: bool = Field(False, description="Divide anew, whatever splits the data come with.")
    unit_from: str | None = Field(None, description="As in train: what says which photographs show the same part.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the splits (as in train) and of everything drawn.")


class TransplantConfig(TransplantParameters, Division):
    """What can be chosen about a set of transplants."""


class GeneratorConfig(SynthesisConfig, Division):
    """What can be chosen about a StyleGAN and the photographs it learns from."""

"""What can be chosen about a set with made images; descriptions are the command line's help. Imports little."""

from __future__ import annotations

from knowngood.data.config import SplitConfig
from knowngood.synthesis.config import TransplantParameters
from knowngood.synthesis.stylegan.config import SynthesisConfig


class TransplantConfig(TransplantParameters, SplitConfig):
    """What can be chosen about a set of transplants."""


class GeneratorConfig(SynthesisConfig, SplitConfig):
    """What can be chosen about a StyleGAN and the photographs it learns from."""

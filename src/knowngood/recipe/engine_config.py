"""Which engine predicts, and how a cluster shares the work; the field descriptions are the command line's help."""

from __future__ import annotations

from pydantic import Field

from knowngood.scale.config import ClusterConfig


class EngineConfig(ClusterConfig):
    """Where photographs are scored."""

    any_product: bool = Field(
        False, description="Decide by the score alone what does not look like the recipe's own photographs."
    )
    cascade: bool = Field(True, description="Use the recipe's cascade, if it has one and --runtime is auto.")

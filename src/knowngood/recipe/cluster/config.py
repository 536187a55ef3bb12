"""Which engine predicts, and how a cluster shares the work; the field descriptions are the command line's help."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PART = 4096  # photographs: minutes of work for a core, and whole batches, so that scores are those of one long run


class EngineConfig(BaseModel):
    """Where photographs are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["local", "ray"] = Field("local", description="local, or ray: a cluster; --out is a folder then.")
    address: str | None = Field(
        None, description="Of the cluster's head, HOST:PORT, or auto; one is started here if not given."
    )
    cascade: bool = Field(True, description="Use the recipe's cascade, if it has one and --runtime is auto.")
    part_size: int = Field(PART, ge=1, description="Photographs a part of the work on a cluster.")
    worker_cores: int = Field(2, ge=1, description="Cores a worker on a cluster.")

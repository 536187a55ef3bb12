"""What can be chosen about judging made images; the field descriptions are the command line's help. Imports little."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from knowngood.study.generating_config import Division


class JudgeConfig(Division):
    """Everything that decides how made images are judged."""

    backbone: str = Field("resnet50", description="Pretrained network in whose features they are judged.")
    weights: Path | None = Field(None, description="File or folder with its weights.")
    image_size: int | None = Field(None, ge=32, description="Side in pixels; the network's own if not given.")
    most: int = Field(3000, ge=20, description="Images of each kind that are looked at, at most.")
    native: bool = Field(
        False, description="Compare real images at their own size, not at that of the made ones: resolution counts too."
    )

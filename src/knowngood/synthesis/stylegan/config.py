"""What can be chosen about a StyleGAN; the field descriptions are the command line's help. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from knowngood.models.backbones import BACKBONES

RESOLUTIONS = (32, 64, 128, 256)
FEWEST = 20  # images; below it a generator repeats what it has seen


class Widths(BaseModel):
    """How large both networks are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent: int = Field(256, ge=8, le=1024, description="Width of z and w.")
    mapping_layers: int = Field(4, ge=1, le=8, description="Layers from z to w.")
    base: int = Field(2048, ge=64, le=65536, description="A stage has base / its side channels ...")
    most: int = Field(256, ge=16, le=1024, description="... and at most these.")


class SynthesisConfig(Widths):
    """Everything that decides what a generator learns; saved with it."""

    class_: str = Field("bad", description="Photographs to train on: bad, good, or the name of one defect.")
    resolution: int = Field(64, description="Side of the pictures: 32, 64, 128 or 256.")
    kimg: float = Field(100.0, gt=0, le=100_000, description="Thousands of photographs that are shown in all.")
    good_kimg: float = Field(
        0.0,
        ge=0,
        le=100_000,
        description="Before them, thousands of good photographs: the generator starts from them.",
    )
    freeze_blocks: int = Field(
        0,
        ge=0,
        le=6,
        description="After --good-kimg, blocks of the discriminator, finest first, that stay as they are.",
    )
    by_defect: bool = Field(
        False, description="Give the networks each photograph's defect; samples can then be of one."
    )
    shape: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description="Photographs that are not square: pad repeats their edges, crop takes the centre, stretch neither.",
    )
    discriminator: Literal["residual", "projected", "both"] = Field(
        "both",
        description="residual; projected: through a pretrained network, sharp but alone soon without variety; or both.",
    )
    join_kimg: float = Field(
        10.0, ge=0, description="With both, thousands of photographs before the projected one takes part."
    )
    model: str | None = Field(
        None, description="Feature network of a projected discriminator; the first at hand if not given."
    )
    batch_size: int = Field(16, ge=4, le=1024, description="Photographs a step.")
    learning_rate: float = Field(0.002, gt=0, le=0.1, description="Of both networks (Adam).")
    r1: float | None = Field(
        None,
        ge=0,
        description="Weight of the gradient penalty; 0.0002 x pixels / batch size if not given, 0.05 at least.",
    )
    path_length: float = Field(
        0.0, ge=0, description="Weight of the path-length regularisation; none with few images (2020b), else 2."
    )
    mixing: float = Field(0.9, ge=0, le=1, description="Share of the samples whose styles are mixed.")
    ada_target: float = Field(
        0.6,
        ge=0,
        lt=1,
        description="Overfitting at which the discriminator's augmentation is kept constant; 0 for none.",
    )
    ada_kimg: float = Field(
        100.0, gt=0, description="Thousands of photographs in which its probability may move from 0 to 1."
    )
    ema_kimg: float = Field(5.0, gt=0, description="Half-life of the averaged generator, in thousands of photographs.")
    tick_kimg: float = Field(2.0, gt=0, description="Thousands of photographs between two checkpoints and grids.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Arithmetic; auto takes bf16 where the machine has it in hardware."
    )
    devices: int = Field(1, ge=1, le=64, description="GPUs, or CPU processes where there is none.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of weights and everything drawn.")

    @field_validator("resolution")
    @classmethod
    def _is_a_power(cls, resolution: int) -> int:
        if resolution not in RESOLUTIONS:
            raise ValueError(f"the networks double their side stage by stage: {', '.join(map(str, RESOLUTIONS))}")
        return resolution

    @model_validator(mode="after")
    def _goes_together(self) -> SynthesisConfig:
        if self.batch_size % self.devices:
            raise ValueError(f"--batch-size {self.batch_size} cannot be divided among {self.devices} devices")
        if self.batch_size // self.devices < 4:
            raise ValueError("every device needs 4 photographs a step")
        if self.freeze_blocks and not self.good_kimg:
            raise ValueError("--freeze-blocks needs --good-kimg")
        if self.discriminator == "projected" and (self.r1 or self.freeze_blocks):
            raise ValueError("--r1 and --freeze-blocks are about a residual discriminator")
        if self.model is not None and self.discriminator == "residual":
            raise ValueError("--model is about a projected discriminator")
        if self.model is not None and self.model not in BACKBONES:
            raise ValueError(f"--model is one of {', '.join(BACKBONES.names())}")
        return self

    @property
    def r1_weight(self) -> float:
        """Weight of the gradient penalty: 2020b's rule of thumb, 0.05 at least; a projected discriminator has none."""
        if self.discriminator == "projected":
            return 0.0
        return self.r1 if self.r1 is not None else max(0.05, 0.0002 * self.resolution**2 / self.batch_size)

    def steps(self, kimg: float) -> int:
        """Steps that show so many thousands of photographs."""
        return round(kimg * 1000 / self.batch_size)


class NetworksConfig(Widths):
    """Sizes of a generator and its discriminator; saved beside their weights."""

    resolution: int = 64
    channels: int = Field(1, description="1 grey, 3 RGB.")
    classes: int = Field(0, ge=0, description="Defect types that samples can be asked for; 0 for none.")

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the stages, 4 first."""
        return tuple(2**power for power in range(2, self.resolution.bit_length()))

    @property
    def layers(self) -> int:
        """How many w an image takes: two a stage."""
        return 2 * len(self.sides)

    def width(self, side: int) -> int:
        """Channels of the stage of a side."""
        return min(self.most, self.base // side)

"""From uint8 photographs to one raw score a photograph: normalisation, trunk, head; and several of these as one."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from knowngood.errors import ConfigError
from knowngood.models.backbones import BACKBONES
from knowngood.models.cells import JoinedCells, cell_positions
from knowngood.models.heads import CellHead, NearestHead, PatchHead, SvmHead, patch_maps, pool_stages
from knowngood.models.weights.files import IMAGENET_MEAN, IMAGENET_STD, Weights

_Mean = Annotated[float, Field(ge=-10, le=10)]
_Deviation = Annotated[float, Field(ge=1e-4, le=10)]
_Stage = Annotated[int, Field(ge=0, le=31)]
_Kind = Annotated[str, Field(min_length=1, max_length=255)]


class NetworkConfig(BaseModel):
    """Everything needed to build a network again, apart from its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbone: str = Field(max_length=100, description="Name in the model registry.")
    head: Literal["linear", "kernel", "cells", "kernel+cells", "patch_memory", "knn"] = Field(
        "linear", description="Kind of head."
    )
    height: int = Field(ge=16, le=4096, description="Input height in pixels.")
    width: int = Field(ge=16, le=4096, description="Input width in pixels.")
    channels: Literal[1, 3] = Field(description="1 for grey photographs, 3 for colour.")
    mean: tuple[_Mean, _Mean, _Mean] = Field(IMAGENET_MEAN, description="Mean of RGB in 0..1.")
    std: tuple[_Deviation, _Deviation, _Deviation] = Field(IMAGENET_STD, description="Deviation of RGB in 0..1.")
    strided_1x1: bool = Field(False, description="Whether strides sit on the first 1x1 convolutions (Caffe).")
    norm_epsilon: float | None = Field(
        None, ge=1e-12, le=1, description="Epsilon of batch norms, if not the network's own."
    )
    supports: int = Field(0, ge=0, le=10_000_000, description="Support vectors, or remembered rows, of the head.")
    stages: tuple[_Stage, ...] = Field(
        (), max_length=16, description="Stages that the head sees, rising, where it sees maps."
    )
    kinds: tuple[_Kind, ...] = Field(
        ("bad",), min_length=1, max_length=256, description="Kinds of defects that a cell head tells apart."
    )
    sharpness: float = Field(2.0, ge=0.1, le=100, description="Of a cell head's pooling.")
    views: Literal[1, 4, 8] = Field(
        1, description="Views that are averaged: 1, 4 (mirrored both ways) or 8 (turned as well)."
    )

    @field_validator("stages")
    @classmethod
    def _rising(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if list(stages) != sorted(set(stages)):
            raise ValueError("stages must rise")
        return stages

    @model_validator(mode="after")
    def _turns_squares(self) -> NetworkConfig:
        if self.views == 8 and self.height != self.width:
            raise ValueError("eight views are turned by a quarter, which takes square photographs")
        return self

    @property
    def cell_stages(self) -> tuple[int, ...]:
        """Stages that a cell head sees: all, but beside an SVM the last two."""
        return self.stages[-2:] if self.head == "kernel+cells" else self.stages

    @property
    def has_cells(self) -> bool:
        """Whether the head has a logit a cell."""
        return self.head in ("cells", "kernel+cells")


@dataclass(frozen=True)
class CellScores:
    """What a cell head says of B photographs.

    Attributes:
        raw_scores: (B,) float32.
        cell_scores: (B, h, w) float32, on the cells of the finest stage; the raw score is their log-mean-exp, unless
            an SVM's is added to it. Averaged over the views.
        kinds: (B, K) float32, logits of the kinds of defects: their softmax is the probability of each kind, if bad.
    """

    raw_scores: Tensor
    cell_scores: Tensor
    kinds: Tensor


Turn: TypeAlias = tuple[bool, bool, bool]  # exchange rows and columns after mirroring rows, columns
TURNS: tuple[Turn, ...] = tuple(itertools.product((False, True), (False, True), (False, True)))


def turned(values: Tensor, turn: Turn, *, back: bool = False) -> Tensor:
    """Returns a view (..., H, W) of pictures, or the picture of a view."""
    mirrored = [axis for axis, wanted in zip((-2, -1), turn[1:], strict=True) if wanted]
    if back and turn[0]:
        values = values.transpose(-2, -1)
    if mirrored:
        values = values.flip(mirrored)
    return values.transpose(-2, -1) if turn[0] and not back else values


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).mean(0)


class Classifier(nn.Module):
    """One trunk with one head.

    Args:
        config: What to build; tensors are random until loaded or trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        backbone = BACKBONES.get(config.backbone)
        outputs = 2 if config.head == "linear" else 0
        self.trunk = timm.create_model(backbone.timm_name, pretrained=False, num_classes=outputs)
        if backbone.blocks:
            _shorten(self.trunk, backbone.blocks, outputs)
        if config.norm_epsilon is not None:
            for layer in self.trunk.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = config.norm_epsilon
        if config.strided_1x1:
            _move_strides(self.trunk, backbone.strided_1x1)
        self.register_buffer("mean", 255 * torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.head: SvmHead | PatchHead | NearestHead | None = None
        self.cells: CellHead | None = None
        if config.head in ("kernel", "kernel+cells"):
            self.head = SvmHead(self.feature_length, config.supports)
        if config.has_cells:
            self.trunk.prune_intermediate_layers(list(config.stages), prune_norm=True, prune_head=True)
            self.cells = self._cell_head()
        if config.head == "kernel+cells":
            self.register_buffer("shares", torch.ones(2))  # of the SVM's and of the cells' raw score
        if config.head == "patch_memory":
            self.head = PatchHead(self.feature_length // 2, config.supports)
            self.trunk.prune_intermediate_layers(list(config.stages), prune_norm=True)  # later stages are not asked
        elif config.head == "knn":
            self.head = NearestHead(self.trunk.num_features, config.supports)

    def _cell_head(self) -> CellHead:
        """Returns a cell head on the configured stages, with the places of their cells."""
        config, facts = self.config, [self.trunk.feature_info[index] for index in self.config.cell_stages]
        made = CellHead([int(fact["num_chs"]) for fact in facts], len(config.kinds), config.sharpness)
        names = [str(fact["module"]) for fact in facts]
        sizes: list[tuple[int, ...]] = []

        def run() -> None:
            empty = torch.zeros(1, 3, config.height, config.width)
            sizes.extend(tuple(stage.shape[2:]) for stage in self.of_cells(self._stages(empty)))

        was = self.training
        positions = cell_positions(self.trunk.eval(), names, run)
        self.trunk.train(was)
        made.place([positions[name] for name in names], sizes)
        return made

    def run_once(self) -> None:
        """Passes one empty image, one view of it, through the trunk."""
        empty = torch.zeros(1, 3, self.config.height, self.config.width, device=self.mean.device)
        if self.config.stages:
            self._stages(empty)
        else:
            self.trunk(empty)

    @property
    def feature_length(self) -> int:
        """Number of stage features that an SVM head sees."""
        channels = [stage["num_chs"] for stage in self.trunk.feature_info]
        return int(2 * sum(channels[index] for index in self.config.stages))

    def normalise(self, images: Tensor) -> Tensor:
        """Returns network input (B, 3, height, width) float32 of images (B, 1 or 3, H, W) with values 0..255."""
        values, size = images.float(), (self.config.height, self.config.width)
        if values.shape[2:] != size:  # an inspector's members may see different sizes
            values = functional.interpolate(values, size, mode="bilinear", antialias=True)
        return (values.expand(-1, 3, -1, -1) - self.mean) / self.std

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """Returns what the configured stages put out, (B, C_i, H_i, W_i) each, the finest first."""
        return self._stages(self.normalise(images))

    def of_cells(self, stages: list[Tensor]) -> list[Tensor]:
        """Returns those of the configured stages' maps that a cell head sees."""
        return stages[-len(self.config.cell_stages) :]

    def _stages(self, values: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.trunk.forward_intermediates(
            values, indices=list(self.config.stages), intermediates_only=True
        )
        return maps

    def stage_features(self, images: Tensor) -> Tensor:
        """Returns average and maximum of the configured stages, (B, D) float32."""
        return self._pooled(self.normalise(images))

    def _pooled(self, values: Tensor) -> Tensor:
        return pool_stages(self._stages(values))

    def patch_maps(self, images: Tensor) -> Tensor:
        """Returns locally aware features of the configured stages, (B, D, h, w) float32."""
        return self._patches(self.normalise(images))

    def _patches(self, values: Tensor) -> Tensor:
        return patch_maps(self._stages(values))

    def penultimate(self, images: Tensor) -> Tensor:
        """Returns what the last layer sees, (B, trunk.num_features) float32.

        For VGG, whose registry weights have no fully connected layers, that is the average of the last maps.
        """
        return self._penultimate(self.normalise(images))

    def _penultimate(self, values: Tensor) -> Tensor:
        maps: Tensor = self.trunk.forward_features(values)
        if not BACKBONES.get(self.config.backbone).pooled_head:
            return maps.mean((2, 3)).float()
        rows: Tensor = self.trunk.forward_head(maps, pre_logits=True)
        return rows.float()

    def penultimate_and_stages(self, images: Tensor) -> Tensor:
        """Returns `penultimate` and `stage_features` side by side, (B, trunk.num_features + D), from one pass."""
        last, maps = self.trunk.forward_intermediates(self.normalise(images), indices=list(self.config.stages))
        pooled = BACKBONES.get(self.config.backbone).pooled_head
        rows: Tensor = self.trunk.forward_head(last, pre_logits=True) if pooled else last.mean((2, 3))
        return torch.cat([rows.float(), pool_stages(maps)], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """Returns the two outputs (good, bad) of a linear head, (B, 2)."""
        outputs: Tensor = self.trunk(self.normalise(images))
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """Returns the raw score, (B,) float32, not calibrated: a difference of logits or a distance, higher = bad."""
        if self.cells is not None:
            return self.scored(images).raw_scores
        return _mean([self._raw_scores(view) for _, view in self.views(self.normalise(images))])

    def _raw_scores(self, values: Tensor) -> Tensor:
        """Returns the raw scores (B,) of network input, where the head is no cell head."""
        if self.head is not None:
            seen = {"kernel": self._pooled, "patch_memory": self._patches, "knn": self._penultimate}
            raw: Tensor = self.head(seen[self.config.head](values))
            return raw
        outputs: Tensor = self.trunk(values).float()
        return outputs[:, 1] - outputs[:, 0]

    def scored(self, images: Tensor) -> CellScores:
        """Returns raw scores and what they are made of, with a cell head, in one pass.

        Args:
            images: (B, C, H, W) uint8.
        """
        assert self.cells is not None
        logits, raw_scores = [], []
        for turn, view in self.views(self.normalise(images)):
            stages = self._stages(view)
            logits.append(turned(self.cells(self.of_cells(stages)), turn, back=True))
            if self.head is not None:
                raw_scores.append(self.head(pool_stages(stages)))
        mean = _mean(logits)
        scores = self.cells.scores(mean)
        raw = self.cells.pooled(scores)
        if raw_scores:
            shares = self.get_buffer("shares")
            raw = shares[0] * _mean(raw_scores) + shares[1] * raw
        return CellScores(raw, scores, self.cells.kind_logits(mean))

    @property
    def cell_share(self) -> float:
        """Factor of the cells' raw score in the classifier's: 1 without an SVM beside them."""
        return float(self.get_buffer("shares")[1]) if self.config.head == "kernel+cells" else 1.0

    def views(self, values: Tensor) -> list[tuple[Turn, Tensor]]:
        """Returns the configured views of pictures (B, C, H, W), each with what brings its map back."""
        return [(turn, turned(values, turn)) for turn in TURNS[: self.config.views]]

    def one_view(self) -> Classifier:
        """Returns the classifier with one view and the same tensors."""
        made = copy.copy(self)
        made.config = self.config.model_copy(update={"views": 1})
        return made

    def load_trunk(self, weights: Weights) -> None:
        """Takes pretrained tensors; the head keeps its own.

        Raises:
            ConfigError: The weights need another normalisation, strides or epsilon than this network was built with.
        """
        config = self.config
        built_for = (config.mean, config.std, config.strided_1x1, config.norm_epsilon)
        if built_for != (weights.mean, weights.std, weights.strided_1x1, weights.norm_epsilon):
            raise ConfigError("The network was not built for these weights.", fix="Use `network_for`.")
        head = {f"{name}.{kind}" for name in _head_names(self.trunk) for kind in ("weight", "bias")}
        state = {n: t for n, t in weights.state.items() if n not in head}
        self.trunk.load_state_dict(state, strict=False)

    def head_layer(self) -> nn.Linear:
        """Returns the last linear layer (two outputs)."""
        layer = self.trunk.get_classifier()
        if not isinstance(layer, nn.Linear):
            raise ConfigError(f"{self.config.backbone} has no linear last layer.")
        return layer


class Inspector(nn.Module):
    """One classifier, or several whose scaled raw scores are added: sum_i scale_i * raw_score_i.

    Args:
        configs: Members; images come at the size of the largest, the others make them smaller.
    """

    scales: Tensor

    def __init__(self, configs: tuple[NetworkConfig, ...]) -> None:
        super().__init__()
        if len({c.channels for c in configs}) != 1:
            raise ConfigError("The members of an inspector must all be grey or all be colour.")
        self.members = nn.ModuleList(Classifier(config) for config in configs)
        self.register_buffer("scales", torch.ones(len(configs)))

    @property
    def configs(self) -> tuple[NetworkConfig, ...]:
        return tuple(member.config for member in self.members if isinstance(member, Classifier))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the raw score (B,) of images (B, C, H, W) uint8."""
        raw = torch.stack([member(images) for member in self.members])
        return (self.scales[:, None] * raw).sum(0)

    def joined_cells(self) -> JoinedCells | None:
        """Returns what adds the cell scores of all members on one grid; None where a member has no cell head."""
        members = [member for member in self.members if isinstance(member, Classifier)]
        heads = [member.cells for member in members if member.cells is not None]
        if len(heads) < len(members):
            return None
        sizes = [(config.height, config.width) for config in self.configs]
        joined = JoinedCells([head.position for head in heads], [head.size for head in heads], sizes)
        return joined.to(self.scales.device)


def cell_scales(members: Sequence[Classifier], scales: Sequence[float]) -> list[float]:
    """Returns how much the cell scores of each member count in the raw score of the whole."""
    return [scale * member.cell_share for scale, member in zip(scales, members, strict=True)]


def scored_together(
    members: Sequence[Classifier],
    scales: Sequence[float],
    of_cells: Sequence[float],
    joined: JoinedCells,
    images: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns raw scores (B,) and cell scores (B, h, w) of several members with cells, added on the finest grid.

    Args:
        members: With cell heads; of an inspector or of the graph that is exported.
        scales: Factor of each member's raw score.
        of_cells: From `cell_scales`.
        joined: From `Inspector.joined_cells`.
        images: (B, C, H, W) uint8.
    """
    made = [member.scored(images) for member in members]
    raw_scores = [scale * one.raw_scores for scale, one in zip(scales, made, strict=True)]
    maps = [scale * one.cell_scores for scale, one in zip(of_cells, made, strict=True)]
    return torch.stack(raw_scores).sum(0), joined(maps)


def network_for(backbone: str, weights: Weights | None, height: int, width: int, channels: int) -> NetworkConfig:
    """Returns the configuration with a linear head that suits these weights (or random ones, when None)."""
    described = {"backbone": backbone, "height": height, "width": width, "channels": channels}
    if weights is not None:
        described |= {name: getattr(weights, name) for name in ("mean", "std", "strided_1x1", "norm_epsilon")}
    return NetworkConfig.model_validate(described)


def svm_config(base: NetworkConfig) -> NetworkConfig:
    """Returns the configuration with an SVM head that sees several stages; it has no support vectors yet."""
    stages = BACKBONES.get(base.backbone).stages
    stages = stages[1:] if len(stages) > 3 else stages  # the finest stage adds noise and memory, not skill
    return base.model_copy(update={"head": "kernel", "stages": stages, "supports": 0})


def cells_config(base: NetworkConfig, stages: tuple[int, ...] = (), kinds: tuple[str, ...] = ("bad",)) -> NetworkConfig:
    """Returns the configuration with a cell head; by default it sees the last three stages, cells of 8 px."""
    stages = stages or BACKBONES.get(base.backbone).stages[-3:]
    return base.model_copy(update={"head": "cells", "stages": stages, "kinds": kinds, "supports": 0})


def cells_beside_svm(base: NetworkConfig, kinds: tuple[str, ...]) -> NetworkConfig:
    """Returns the configuration with an SVM head and a cell head on one trunk; it has no support vectors yet."""
    return svm_config(base).model_copy(update={"head": "kernel+cells", "kinds": kinds})


def with_views(config: NetworkConfig, views: int) -> NetworkConfig:
    """Returns the configuration with another number of views.

    Raises:
        ConfigError: Eight views are asked for, and the photographs are not square.
    """
    if views == 8 and config.height != config.width:
        raise ConfigError(
            f"--views 8 turns photographs by a quarter, and these are brought to {config.width} x {config.height}.",
            expected="square photographs",
            fix="--views 4",
        )
    return config.model_copy(update={"views": views})


def common_shape(configs: Sequence[NetworkConfig]) -> tuple[int, int, int]:
    """Returns the channels, height and width that images are brought to for all members: those of the largest."""
    largest = max(configs, key=lambda c: c.height * c.width)
    return largest.channels, largest.height, largest.width


def input_size(sizes: list[tuple[int, int]], area: int, multiple: int = 32) -> tuple[int, int]:
    """Returns the network's (height, width): about `area`^2 pixels in the median shape of the photographs.

    Args:
        sizes: (height, width) of each photograph in pixels.
        area: Side of the square with the wanted number of pixels.
        multiple: Both sides are rounded to a multiple of this.
    """
    ratios = sorted(height / width for height, width in sizes)
    ratio = min(max(ratios[len(ratios) // 2], 0.25), 4.0)
    sides = (area * math.sqrt(ratio), area / math.sqrt(ratio))
    rounded = [max(multiple, multiple * round(side / multiple)) for side in sides]
    return rounded[0], rounded[1]


def _move_strides(trunk: nn.Module, blocks: tuple[str, ...]) -> None:
    for name in blocks:
        block = trunk.get_submodule(name)
        for convolution, stride in (("conv1", 2), ("conv2", 1)):
            layer = getattr(block, convolution)
            layer.stride = (stride, stride)


def _shorten(trunk: Any, blocks: tuple[int, ...], outputs: int) -> None:
    """Leaves the first blocks of each stage of one of timm's ResNets, and out what comes after the last of them."""
    stages = [stage["module"] for stage in trunk.feature_info[1:]]  # the first is the stem
    for name, kept in zip(stages, blocks, strict=False):
        setattr(trunk, name, getattr(trunk, name)[:kept])
    for name in stages[len(blocks) :]:
        setattr(trunk, name, nn.Sequential())  # timm's own way: it passes on what comes
    trunk.feature_info = trunk.feature_info[: 1 + len(blocks)]
    trunk.num_features = trunk.head_hidden_size = trunk.feature_info[-1]["num_chs"]
    trunk.reset_classifier(outputs)


def _head_names(trunk: nn.Module) -> tuple[str, ...]:
    name = getattr(trunk, "pretrained_cfg", {}).get("classifier", "fc")
    return (name,) if isinstance(name, str) else tuple(name)

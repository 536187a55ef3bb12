"""Raw score and map as two outputs of one graph, for the runtimes that a recipe is exported to."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowngood.cam.maps import has_cam
from knowngood.errors import ConfigError
from knowngood.models.classifier import (
    Classifier,
    Inspector,
    NetworkConfig,
    cell_scales,
    common_shape,
    scored_together,
    turned,
)
from knowngood.models.heads import PatchHead


class RawScoreAndMap(nn.Module):
    """One forward pass, two answers; the map is a 1x1 convolution of what the head averages anyway.

    Args:
        classifier: With a linear head on averaged maps; its tensors are shared, not copied.

    Raises:
        ConfigError: The network has no class activation map.

    Reference:
        Zhou et al. 2016, equation 2.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        if not has_cam(classifier):
            raise ConfigError(
                f"{classifier.config.backbone} with a {classifier.config.head} head has no class activation map.",
                expected="a fine-tuned network whose last layer is linear on globally averaged maps",
                fix="Export it without a map.",
            )
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns raw scores (B,) and raw maps (B, h, w) float32 of photographs (B, C, H, W) uint8."""
        layer = self.classifier.head_layer()
        assert layer.bias is not None
        heats = []
        for turn, view in self.classifier.views(self.classifier.normalise(images)):
            maps = self.classifier.trunk.forward_features(view)
            weight = (layer.weight[1] - layer.weight[0]).to(maps.dtype)
            heats.append(turned(torch.einsum("bchw,c->bhw", maps, weight).float(), turn, back=True))
        heat = heats[0] if len(heats) == 1 else torch.stack(heats).mean(0)
        return heat.mean((1, 2)) + (layer.bias[1] - layer.bias[0]), heat


MapKind: TypeAlias = Literal["cam", "cells", "distances"]


class Graphed(Classifier):
    """A classifier in a form that every exporter takes; it gives the same raw scores as the one that it is made from.

    Resizing (a smaller member of an inspector) becomes two matrix products. Folded, normalisation lies in the first
    convolution, which for grey photographs has one channel, the sum of three.

    Args:
        classifier: Its tensors are copied.
        shape: Channels, height and width of the images that will come.
        fold: Whether normalisation is folded into the first convolution. Of a colour network, and of one with the same
            mean for all channels, that is exact. Of a grey one it is exact everywhere but along the border of the
            picture, where the padding's single grey value stands for three.
    """

    centre: Tensor

    def __init__(self, classifier: Classifier, shape: tuple[int, int, int], *, fold: bool) -> None:
        super().__init__(classifier.config)
        self.load_state_dict(classifier.state_dict())
        self.eval().requires_grad_(False)
        self.fold = fold
        if fold:
            name, first = first_convolution(self)
            made, centre = folded(first, self.mean, self.std, classifier.config.channels)
            self.trunk.set_submodule(name, made)
            self.register_buffer("centre", centre, persistent=False)
        own = (classifier.config.height, classifier.config.width)
        self.resizes = shape[1:] != own
        if self.resizes:
            self.register_buffer("down", resizing(shape[1], own[0]), persistent=False)
            self.register_buffer("across", resizing(shape[2], own[1]).T, persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Returns what the trunk takes, (B, C, height, width) float32, of images (B, C, H, W) uint8."""
        values = images.float()
        if self.resizes:
            values = self.get_buffer("down") @ values @ self.get_buffer("across")
        if self.fold:
            return values - self.centre
        return (values.expand(-1, 3, -1, -1) - self.mean) / self.std


class Scorer(nn.Module):
    """A whole inspector as one module.

    Args:
        inspector: Of the recipe.
        fold: See `Graphed`.

    Attributes:
        shape: Channels, height and width of its input.
        map_kind: "cam" (raw class activation map), "cells" (scores of the cells, of all members added) or "distances"
            (to the nearest remembered patch), (B, h, w); None where the inspector has no map in a forward pass.
    """

    def __init__(self, inspector: Inspector, *, fold: bool) -> None:
        super().__init__()
        self.shape = common_shape(inspector.configs)
        members = [Graphed(m, self.shape, fold=fold) for m in inspector.members if isinstance(m, Classifier)]
        self.members = nn.ModuleList(members)
        self.scales = inspector.scales.tolist()
        self.map_kind: MapKind | None = map_kind(inspector)
        self.with_map = RawScoreAndMap(members[0]) if self.map_kind == "cam" else None
        self.joined = inspector.joined_cells()
        self.cell_scales = [] if self.joined is None else cell_scales(members, self.scales)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns raw scores (B,) and, where there is one, the map (B, h, w) of images (B, C, H, W) uint8."""
        if self.with_map is not None:
            raw_score, heat = self.with_map(images)
            return self.scales[0] * raw_score, self.scales[0] * heat
        if self.joined is not None:
            members = [member for member in self.members if isinstance(member, Graphed)]
            return scored_together(members, self.scales, self.cell_scales, self.joined, images)
        if self.map_kind == "distances":
            member = self.members[0]
            assert isinstance(member, Graphed)
            assert isinstance(member.head, PatchHead)
            distances = member.head.distances(member.patch_maps(images))
            return member.head.raw_scores(distances), distances
        raw_score = self.scales[0] * self.members[0](images)
        for scale, member in zip(self.scales[1:], self.members[1:], strict=True):
            raw_score = raw_score + scale * member(images)
        return (raw_score,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what comes out."""
        return ("margin",) if self.map_kind is None else ("margin", "map")

    def example(self) -> Tensor:
        """Returns two empty pictures, (2, C, H, W) uint8."""
        return torch.zeros(2, *self.shape, dtype=torch.uint8)


def map_kind(inspector: Inspector) -> MapKind | None:
    """Returns which map an inspector gives in its forward pass; None where it takes gradients, or has none."""
    if all(config.has_cells for config in inspector.configs):
        return "cells"
    if len(inspector.members) != 1:
        return None
    member = inspector.members[0]
    assert isinstance(member, Classifier)
    if isinstance(member.head, PatchHead):
        return "distances"
    return "cam" if has_cam(member) else None


def first_convolution(classifier: Classifier) -> tuple[str, nn.Conv2d]:
    """Returns name and layer of the convolution that sees the picture.

    Raises:
        ConfigError: The network does not begin with one.
    """
    calls: list[tuple[str, nn.Conv2d]] = []
    handles = []
    for name, layer in classifier.trunk.named_modules():
        if isinstance(layer, nn.Conv2d):
            handles.append(layer.register_forward_pre_hook(lambda module, _, name=name: calls.append((name, module))))
    config: NetworkConfig = classifier.config
    try:
        with torch.no_grad():
            classifier.trunk.forward_features(torch.zeros(1, 3, config.height, config.width))
    finally:
        for handle in handles:
            handle.remove()
    if not calls or calls[0][1].in_channels != 3:
        raise ConfigError(
            f"{config.backbone} does not begin with a convolution of three channels; nothing can be folded into it."
        )
    return calls[0]


def folded(convolution: nn.Conv2d, mean: Tensor, std: Tensor, channels: int) -> tuple[nn.Conv2d, Tensor]:
    """Returns a convolution of photographs less `centre` that equals `convolution` of normalised photographs.

    Args:
        convolution: Of three channels.
        mean: (1, 3, 1, 1), of pixels 0..255.
        std: (1, 3, 1, 1), of pixels 0..255.
        channels: 1 for grey photographs, 3 for colour.

    Returns:
        The convolution with its new weights, and centre (1, channels, 1, 1). The padding stays zero, that is `centre`
        in the photograph; for grey it is the value whose error along the border is least in the square.
    """
    made = deepcopy(convolution)
    weight = convolution.weight / std
    bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias
    centre = mean
    if channels == 1:
        summed, weighed = weight.sum(1, keepdim=True), (weight * mean).sum(1, keepdim=True)
        centre = (summed * weighed).sum() / summed.square().sum()
        bias = bias + (centre * summed - weighed).sum((1, 2, 3))
        weight, centre = summed, centre.view(1, 1, 1, 1)
        made.in_channels = 1
    made.weight = nn.Parameter(weight.clone(), requires_grad=False)
    made.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return made, centre.clone()


def resizing(before: int, after: int) -> Tensor:
    """Returns the matrix (after, before) of an antialiased bilinear change of length."""
    columns = torch.eye(before)[None, None]
    rows: Tensor = functional.interpolate(columns, (after, before), mode="bilinear", antialias=True)[0, 0]
    return rows


def folds_exactly(inspector: Inspector) -> bool:
    """Says whether folding changes nothing, not even along the border: colour, or one mean for all channels."""
    return all(config.channels == 3 or len(set(config.mean)) == 1 for config in inspector.configs)

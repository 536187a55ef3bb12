"""Raw maps of one classifier or of a whole inspector, for a batch of fitted photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from knowngood.errors import ConfigError
from knowngood.explain.cells import cells_of
from knowngood.explain.layers import LAST, layer_names, stage_names
from knowngood.explain.methods import METHODS, Method
from knowngood.explain.watching import Watch
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Classifier, Inspector
from knowngood.models.heads import KernelHead, pool_stages

AUTO = "auto"


@dataclass(frozen=True)
class LayerMaps:
    """What one batch gave.

    Attributes:
        margins: (B,) float32, as the classifier gives them.
        maps: Layer to raw maps (B, h, w) float32; not scaled to the picture, so comparable between pictures.
    """

    margins: Tensor
    maps: dict[str, Tensor]


def has_cam(classifier: Classifier) -> bool:
    """Says whether the last layer is linear on averaged maps, so that CAM exists."""
    return classifier.head is None and BACKBONES.get(classifier.config.backbone).pooled_head


def method_for(classifier: Classifier, name: str = AUTO) -> Method:
    """Returns the method asked for; "auto" is CAM where it exists, else HiResCAM, which equals it there.

    Raises:
        ConfigError: CAM is asked of a network that has none.
        UnknownNameError: No such method.
    """
    if name == AUTO:
        return METHODS.get("cam" if has_cam(classifier) else "hirescam")
    method = METHODS.get(name)
    if method.needs == "weights" and not has_cam(classifier):
        head = "a kernel head" if classifier.head is not None else "layers between its maps and its outputs"
        raise ConfigError(
            f"There is no {name} for {classifier.config.backbone}: it has {head}.",
            expected="a network whose last layer is linear on globally averaged maps",
            fix="Use --method gradcam (or hirescam), which take any network.",
        )
    return method


def layer_maps(classifier: Classifier, images: Tensor, method: Method, layers: str | Sequence[str] = LAST) -> LayerMaps:
    """Returns raw maps of the layers asked for, in one forward pass and at most one backward pass.

    Args:
        classifier: In evaluation mode; left as it was.
        images: (B, C, H, W) uint8.
        method: From `method_for`.
        layers: See `layer_names`; a method that needs the last layer's weights takes only "last".

    Raises:
        UnknownNameError: There is no such layer.
        ConfigError: The method cannot say anything of that layer.
    """
    names = layer_names(classifier, layers)
    if method.needs == "weights" and names != stage_names(classifier)[-1:]:
        raise ConfigError(
            "CAM speaks of the last stage only.", expected="--layers last", fix="Use --method gradcam for other layers."
        )
    with Watch(classifier.trunk, names, gradients=method.needs == "gradients") as watch:
        margins = classifier(images)
        extra: dict[str, Tensor | None] = dict.fromkeys(names)
        if method.needs == "gradients":
            extra |= watch.gradients_of(margins)
        elif method.needs == "weights":
            weight = classifier.head_layer().weight
            extra[names[0]] = (weight[1] - weight[0]).detach()
        maps = {
            name: method.make(output.detach().float(), extra[name]).detach() for name, output in watch.outputs.items()
        }
        return LayerMaps(margins.detach().float(), maps)


def stage_heat(classifier: Classifier, images: Tensor, method: Method) -> LayerMaps:
    """Returns raw maps of the stages that a kernel head sees, each by what the head itself owes to it.

    The gradient stops at the stages: a change that runs through later ones is theirs. So the maps can be added, and
    the trunk needs no backward pass.

    Args:
        classifier: With a kernel head.
        images: (B, C, H, W) uint8.
        method: One that needs gradients.
    """
    assert isinstance(classifier.head, KernelHead)
    with torch.inference_mode(False):
        with torch.no_grad():
            outputs = classifier.stage_maps(images)
        with torch.enable_grad():
            seen = [output.detach().requires_grad_() for output in outputs]
            margins = classifier.head(pool_stages(seen))
            gradients = torch.autograd.grad(margins.sum(), seen)
        made = [method.make(s.detach(), g) for s, g in zip(seen, gradients, strict=True)]
        return LayerMaps(margins.detach(), dict(zip(stage_names(classifier), made, strict=True)))


def heat_of(inspector: Inspector, images: Tensor, method: str = AUTO) -> tuple[Tensor, Tensor]:
    """Returns margins and one raw map a photograph, of all members together.

    A member's map is that of its last stage; of a kernel head, which sees several stages, the sum of what it owes to
    each. Members are added as their margins are.

    Args:
        inspector: In evaluation mode.
        images: (B, C, H, W) uint8.
        method: Name of a method, or "auto".

    Returns:
        Margins (B,) and maps (B, H, W) float32 at the size of `images`.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    total = torch.zeros(len(images), *size, device=images.device)
    margins = torch.zeros(len(images), device=images.device)
    for scale, member in zip(inspector.scales.tolist(), inspector.members, strict=True):
        assert isinstance(member, Classifier)
        chosen = method_for(member, method)
        kernel = member.head is not None and chosen.needs == "gradients"
        made = stage_heat(member, images, chosen) if kernel else layer_maps(member, images, chosen)
        margins += scale * made.margins
        for heat in over_picture(member, made.maps, size).values():
            total += scale * heat
    return margins, total


def placed_maps(
    classifier: Classifier, images: Tensor, method: Method, layers: str | Sequence[str] = LAST
) -> LayerMaps:
    """Returns what `layer_maps` does, at the size of the pictures: every cell over the place that it saw."""
    made = layer_maps(classifier, images, method, layers)
    return LayerMaps(made.margins, over_picture(classifier, made.maps, (int(images.shape[2]), int(images.shape[3]))))


def over_picture(classifier: Classifier, maps: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Returns maps of layers at the size of the pictures, every cell over the place that it saw.

    Args:
        classifier: Whose layers they are.
        maps: Layer to raw maps (B, h, w).
        size: Height and width of the pictures that the classifier was given.

    Returns:
        Layer to (B, height, width) float32.
    """
    own = (classifier.config.height, classifier.config.width)
    cells = cells_of(classifier, tuple(maps))
    placed = {name: cells[name].enlarged(heat, own) for name, heat in maps.items()}
    if own == size:
        return placed
    return {
        name: functional.interpolate(heat[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        for name, heat in placed.items()
    }

"""Raw maps of a classifier's layers: layer names, hooks, and one map per photograph."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from knowngood.cam.methods import METHODS, Method
from knowngood.errors import ConfigError, UnknownNameError
from knowngood.models.backbones import BACKBONES
from knowngood.models.cells import Cells, JoinedCells, cell_positions
from knowngood.models.classifier import Classifier, Inspector, cell_scales, scored_together, turned
from knowngood.models.heads import SvmHead, pool_stages

LAST, ALL = "last", "all"


def stage_names(classifier: Classifier) -> tuple[str, ...]:
    """Returns the module names of the stages, fine to coarse; the last one is the input of the head."""
    config, backbone = classifier.config, BACKBONES.get(classifier.config.backbone)
    stages = config.stages or backbone.stages
    if config.head == "cells":  # the head sees the last ones; the ones before have maps as those of any network
        stages = tuple(stage for stage in backbone.stages if stage < stages[0]) + stages
    names = [str(classifier.trunk.feature_info[index]["module"]) for index in stages]
    if classifier.config.head == "linear" and backbone.last_maps:
        names[-1] = backbone.last_maps
    return tuple(names)


def cell_layer(classifier: Classifier) -> str:
    """Returns the module name of the stage whose cells a cell head scores."""
    return str(classifier.trunk.feature_info[classifier.config.cell_stages[0]]["module"])


def layer_names(classifier: Classifier, wanted: str | Sequence[str] = LAST) -> tuple[str, ...]:
    """Returns the dotted names of the layers asked for.

    Args:
        classifier: Whose layers.
        wanted: "last", "all" (every stage), or names, as a list or joined by commas.

    Raises:
        UnknownNameError: There is no such layer; the stages are named.
    """
    names = [n.strip() for n in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    stages = stage_names(classifier)
    known = dict(classifier.trunk.named_modules())
    found: dict[str, None] = {}
    for name in names:
        if name == ALL:
            found |= dict.fromkeys(stages)
        elif name == LAST:
            found[stages[-1]] = None
        elif name and name in known:
            found[name] = None
        else:
            near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
            raise UnknownNameError(
                f"{classifier.config.backbone} has no layer named {name!r}.",
                expected=f"last, all, or names: its stages are {', '.join(stages)}",
                fix=f"did you mean {' or '.join(near)}?" if near else "choose one of those.",
            )
    return tuple(found)


class LayerOutputs:
    """Context that records the outputs of named layers by forward hooks, which it removes on exit.

    Gradients reach back to the earliest of these layers and no further: the layers before it run without a graph.

    Args:
        network: Its hooks and `requires_grad` flags are restored on exit, also after an exception.
        names: Dotted names of its modules.
        gradients: Whether `gradients_of` will be called.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], *, gradients: bool) -> None:
        self.network = network
        self.names = tuple(names)
        self.gradients = gradients
        self.outputs: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        self._frozen: list[nn.Parameter] = []
        self._modes: list[torch.autograd.grad_mode.inference_mode | torch.enable_grad | torch.no_grad] = []

    def __enter__(self) -> LayerOutputs:
        layers = {
            name: self.network.get_submodule(name) for name in self.names
        }  # before anything is changed: a name may be wrong
        self._modes = [torch.inference_mode(False), torch.enable_grad() if self.gradients else torch.no_grad()]
        for mode in self._modes:
            mode.__enter__()
        self._frozen = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        for name, layer in layers.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        for mode in reversed(self._modes):
            mode.__exit__(None, None, None)
        self._handles, self._frozen, self._modes, self.outputs = [], [], [], {}

    def gradients_of(self, raw_scores: Tensor) -> dict[str, Tensor]:
        """Returns the gradient of each image's raw score with respect to each recorded output.

        Args:
            raw_scores: (B,), computed inside the context.

        Returns:
            Name to (B, C, h, w); zeros where the score does not depend on a layer.
        """
        made = torch.autograd.grad(raw_scores.sum(), list(self.outputs.values()), materialize_grads=True)
        return dict(zip(self.outputs, made, strict=True))

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not self.gradients:
                self.outputs[name] = output.clone()
                return output
            seen = output if output.requires_grad else output.detach().requires_grad_()
            self.outputs[name] = seen
            return seen.clone()  # a ReLU that works in place must not change the recorded output

        return keep


_known: WeakKeyDictionary[Classifier, dict[str, Cells]] = WeakKeyDictionary()


def cells_of(classifier: Classifier, layers: tuple[str, ...]) -> dict[str, Cells]:
    """Returns the position of the cells of each layer; computed once per classifier and layer."""
    known = _known.setdefault(classifier, {})
    if missing := tuple(name for name in layers if name not in known):
        known |= cell_positions(classifier.trunk, missing, classifier.run_once)
    return {name: known[name] for name in layers}


AUTO = "auto"


@dataclass(frozen=True)
class LayerMaps:
    """Raw scores and maps of one batch.

    Attributes:
        raw_scores: (B,) float32, logit of bad minus logit of good, uncalibrated.
        maps: Layer to raw maps (B, h, w) float32; not scaled to the picture, so comparable between pictures.
    """

    raw_scores: Tensor
    maps: dict[str, Tensor]


def has_cam(classifier: Classifier) -> bool:
    """Returns whether the last layer is linear on averaged maps, so that CAM is defined."""
    return classifier.config.head == "linear" and BACKBONES.get(classifier.config.backbone).pooled_head


def method_for(classifier: Classifier, name: str = AUTO) -> Method:
    """Returns a method by name; "auto" is CAM where it is defined, else HiResCAM (equal to CAM where both are).

    Raises:
        ConfigError: CAM is not defined for this network.
        UnknownNameError: No such method.
    """
    if name == AUTO:
        return METHODS.get("cam" if has_cam(classifier) else "hirescam")
    method = METHODS.get(name)
    if method.needs == "weights" and not has_cam(classifier):
        heads = {
            "linear": "layers between its maps and its outputs",
            "cells": "a cell head, whose own map is --method auto",
        }
        head = heads.get(classifier.config.head, "an SVM head")
        raise ConfigError(
            f"There is no {name} for {classifier.config.backbone}: it has {head}.",
            expected="a network whose last layer is linear on globally averaged maps",
            fix="Use --method gradcam (or hirescam), which take any network.",
        )
    return method


def layer_maps(classifier: Classifier, images: Tensor, method: Method, layers: str | Sequence[str] = LAST) -> LayerMaps:
    """Returns raw maps of the layers asked for, in one forward pass and at most one backward pass, of one view.

    Args:
        classifier: In evaluation mode; left as it was.
        images: (B, C, H, W) uint8.
        method: From `method_for`.
        layers: See `layer_names`; a method that needs the last layer's weights takes only "last".

    Raises:
        UnknownNameError: There is no such layer.
        ConfigError: The method is not defined for that layer.
    """
    names = layer_names(classifier, layers)
    if method.needs == "weights" and names != stage_names(classifier)[-1:]:
        raise ConfigError(
            "CAM is defined for the last stage only.",
            expected="--layers last",
            fix="Use --method gradcam for other layers.",
        )
    classifier = classifier.one_view()
    with LayerOutputs(classifier.trunk, names, gradients=method.needs == "gradients") as recorded:
        raw_scores = classifier(images)
        extra: dict[str, Tensor | None] = dict.fromkeys(names)
        if method.needs == "gradients":
            extra |= recorded.gradients_of(raw_scores)
        elif method.needs == "weights":
            weight = classifier.head_layer().weight
            extra[names[0]] = (weight[1] - weight[0]).detach()
        maps = {
            name: method.make(output.detach().float(), extra[name]).detach()
            for name, output in recorded.outputs.items()
        }
        return LayerMaps(raw_scores.detach().float(), maps)


def stage_heat(classifier: Classifier, images: Tensor, method: Method) -> LayerMaps:
    """Returns raw maps of the stages that feed an SVM head, each from the gradient of the head alone.

    The gradient stops at the stages, so that an effect through a later stage counts there only: the maps can be added,
    and the trunk needs no backward pass.

    Args:
        classifier: With an SVM head.
        images: (B, C, H, W) uint8.
        method: One that needs gradients.
    """
    assert isinstance(classifier.head, SvmHead)
    with torch.inference_mode(False):
        with torch.no_grad():
            outputs = classifier.stage_maps(images)
        with torch.enable_grad():
            seen = [output.detach().requires_grad_() for output in outputs]
            raw_scores = classifier.head(pool_stages(seen))
            gradients = torch.autograd.grad(raw_scores.sum(), seen)
        made = [method.make(s.detach(), g) for s, g in zip(seen, gradients, strict=True)]
        return LayerMaps(raw_scores.detach(), dict(zip(stage_names(classifier), made, strict=True)))


def heat_of(inspector: Inspector, images: Tensor, method: str = AUTO) -> tuple[Tensor, Tensor]:
    """Returns the raw scores and one raw map per photograph, summed over the members of an ensemble.

    A member's map is that of its last stage; with an SVM head, which has several stages as input, the sum of the maps
    of these stages. Where all members have cell heads and the method is "auto", it is the scores of the cells, of which
    the raw score is made. Members are weighted as their raw scores are.

    Args:
        inspector: In evaluation mode.
        images: (B, C, H, W) uint8.
        method: Name of a method, or "auto".

    Returns:
        Raw scores (B,) and maps (B, H, W), float32, at the size of `images`.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    joined = inspector.joined_cells() if method == AUTO else None
    if joined is not None:
        return _cell_heat(inspector, joined, images, size)
    total = torch.zeros(len(images), *size, device=images.device)
    raw_scores = torch.zeros(len(images), device=images.device)
    for scale, member in zip(inspector.scales.tolist(), inspector.members, strict=True):
        assert isinstance(member, Classifier)
        chosen = method_for(member, method)
        by_stage = member.config.head == "kernel" and chosen.needs == "gradients"
        views = member.views(images)
        for turn, view in views:
            made = stage_heat(member, view, chosen) if by_stage else layer_maps(member, view, chosen)
            raw_scores += scale / len(views) * made.raw_scores
            for heat in over_picture(member, made.maps, size).values():
                total += scale / len(views) * turned(heat, turn, back=True)
    return raw_scores, total


def _cell_heat(
    inspector: Inspector, joined: JoinedCells, images: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Returns raw scores and maps of cells, placed over the picture."""
    members = [member for member in inspector.members if isinstance(member, Classifier)]
    finest = members[joined.finest]
    layer = cell_layer(finest)
    with torch.inference_mode():
        scales = inspector.scales.tolist()
        raw_scores, cells = scored_together(members, scales, cell_scales(members, scales), joined, images)
        return raw_scores, over_picture(finest, {layer: cells}, size)[layer]


def placed_maps(
    classifier: Classifier, images: Tensor, method: Method, layers: str | Sequence[str] = LAST
) -> LayerMaps:
    """Returns what `layer_maps` does, at the size of the images, every cell over its receptive field."""
    made = layer_maps(classifier, images, method, layers)
    return LayerMaps(made.raw_scores, over_picture(classifier, made.maps, (int(images.shape[2]), int(images.shape[3]))))


def over_picture(classifier: Classifier, maps: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Returns maps of layers at the size of the images, every cell over the centre of its receptive field.

    Args:
        classifier: Whose layers they are.
        maps: Layer to raw maps (B, h, w).
        size: Height and width of the images that were passed to the classifier.

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

"""Networks that can be trained here: each file describes one family; add one line to register another."""

from __future__ import annotations

from dataclasses import dataclass

from knowngood.registry import Registry


@dataclass(frozen=True)
class Backbone:
    """A convolutional network of timm and what the floors above must know of it.

    Attributes:
        timm_name: Name given to `timm.create_model`.
        summary: One line for tables and help.
        stages: Indices into timm's `forward_intermediates`, coarse to fine order kept, whose maps are used.
        pooled_head: Whether the head is a linear layer on globally averaged maps (so that CAM exists).
        size: Side in pixels that images are brought to unless the user says otherwise.
        last_maps: Module whose output the head averages, where that is not the last stage.
        strided_1x1: Names of blocks whose stride older (Caffe) weights have on the first 1x1 convolution.
        blocks: Residual blocks that are kept of each of timm's stages; stages beyond them are left out. Empty: all.
        weights_of: Registered network whose ImageNet weights it takes, where those are not its own.
    """

    timm_name: str
    summary: str
    stages: tuple[int, ...] = (1, 2, 3, 4)
    pooled_head: bool = True
    size: int = 224
    last_maps: str = ""
    strided_1x1: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    weights_of: str = ""


BACKBONES: Registry[Backbone] = Registry(
    "model",
    "knowngood.backbones",
    {
        "resnet18": "knowngood.models.backbones.resnets:RESNET18",
        "resnet34": "knowngood.models.backbones.resnets:RESNET34",
        "resnet50": "knowngood.models.backbones.resnets:RESNET50",
        "resnet50_front": "knowngood.models.backbones.resnets:RESNET50_FRONT",
        "wide_resnet50_2": "knowngood.models.backbones.resnets:WIDE_RESNET50_2",
        "resnext50_32x4d": "knowngood.models.backbones.resnets:RESNEXT50_32X4D",
        "vgg16": "knowngood.models.backbones.vgg:VGG16",
        "efficientnet_lite0": "knowngood.models.backbones.efficientnets:LITE0",
        "efficientnet_lite1": "knowngood.models.backbones.efficientnets:LITE1",
        "efficientnet_lite2": "knowngood.models.backbones.efficientnets:LITE2",
        "mobilenetv2": "knowngood.models.backbones.mobilenets:MOBILENETV2",
    },
)

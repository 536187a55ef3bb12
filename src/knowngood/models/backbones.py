"""Networks that can be trained here; add a description and one line to register another."""

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
        "resnet18": "knowngood.models.backbones:RESNET18",
        "resnet34": "knowngood.models.backbones:RESNET34",
        "resnet50": "knowngood.models.backbones:RESNET50",
        "resnet50_front": "knowngood.models.backbones:RESNET50_FRONT",
        "wide_resnet50_2": "knowngood.models.backbones:WIDE_RESNET50_2",
        "resnext50_32x4d": "knowngood.models.backbones:RESNEXT50_32X4D",
        "vgg16": "knowngood.models.backbones:VGG16",
        "efficientnet_lite0": "knowngood.models.backbones:LITE0",
        "efficientnet_lite1": "knowngood.models.backbones:LITE1",
        "efficientnet_lite2": "knowngood.models.backbones:LITE2",
        "mobilenetv2": "knowngood.models.backbones:MOBILENETV2",
    },
)


_DOWNSAMPLING = ("layer2.0", "layer3.0", "layer4.0")

RESNET18 = Backbone("resnet18", "ResNet-18, 11.2 M parameters, 1.8 GMAC at 224 px")
RESNET34 = Backbone("resnet34", "ResNet-34, 21.3 M parameters, 3.7 GMAC at 224 px")
RESNET50 = Backbone("resnet50", "ResNet-50, 23.5 M parameters, 4.1 GMAC at 224 px", strided_1x1=_DOWNSAMPLING)
WIDE_RESNET50_2 = Backbone("wide_resnet50_2", "Wide ResNet-50-2, 66.8 M parameters, 11.4 GMAC at 224 px")
RESNEXT50_32X4D = Backbone("resnext50_32x4d", "ResNeXt-50 32x4d, 23.0 M parameters, 4.3 GMAC at 224 px")
RESNET50_FRONT = Backbone(
    "resnet50",
    "first two stages of ResNet-50, 1.4 M parameters, 0.3 GMAC at 96 px: Lite0's accuracy at twice its rate",
    stages=(1, 2),
    size=96,
    strided_1x1=_DOWNSAMPLING[:1],
    blocks=(3, 4),
    weights_of="resnet50",
)


VGG16 = Backbone(
    "vgg16",
    "VGG-16, 134.3 M parameters (14.7 M without its head), 15.5 GMAC at 224 px",
    stages=(2, 3, 4, 5),
    pooled_head=False,
    last_maps="features.29",  # before the last pooling, where the places are still finest
)


LITE0 = Backbone(
    "tf_efficientnet_lite0", "EfficientNet-Lite0, 3.4 M parameters, 0.4 GMAC at 224 px", size=256, last_maps="bn2"
)
LITE1 = Backbone(
    "tf_efficientnet_lite1", "EfficientNet-Lite1, 4.1 M parameters, 0.6 GMAC at 240 px", size=256, last_maps="bn2"
)
LITE2 = Backbone(
    "tf_efficientnet_lite2", "EfficientNet-Lite2, 4.8 M parameters, 0.9 GMAC at 260 px", size=288, last_maps="bn2"
)


MOBILENETV2 = Backbone("mobilenetv2_100", "MobileNetV2, 2.2 M parameters, 0.3 GMAC at 224 px", last_maps="bn2")

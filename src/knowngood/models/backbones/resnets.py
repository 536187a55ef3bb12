"""The residual family (He et al. 2016; Zagoruyko & Komodakis 2016; Xie et al. 2017)."""

from knowngood.models.backbones import Backbone

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

"""MobileNetV2 (Sandler et al. 2018)."""

from knowngood.models.backbones import Backbone

MOBILENETV2 = Backbone("mobilenetv2_100", "MobileNetV2, 2.2 M parameters, 0.3 GMAC at 224 px", last_maps="bn2")

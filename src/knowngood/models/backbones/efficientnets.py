"""EfficientNet-Lite (Tan & Le 2019, without squeeze-and-excitation): light networks for small machines.

Their default sizes are larger than on ImageNet: they are cheap, and defects are small.
"""

from knowngood.models.backbones import Backbone

LITE0 = Backbone(
    "tf_efficientnet_lite0", "EfficientNet-Lite0, 3.4 M parameters, 0.4 GMAC at 224 px", size=256, last_maps="bn2"
)
LITE1 = Backbone(
    "tf_efficientnet_lite1", "EfficientNet-Lite1, 4.1 M parameters, 0.6 GMAC at 240 px", size=256, last_maps="bn2"
)
LITE2 = Backbone(
    "tf_efficientnet_lite2", "EfficientNet-Lite2, 4.8 M parameters, 0.9 GMAC at 260 px", size=288, last_maps="bn2"
)

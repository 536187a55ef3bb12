"""Which pretrained network is taken where none is named."""

from __future__ import annotations

from knowngood.models.weights.finding import available

PREFERRED = ("resnet50", "efficientnet_lite2", "efficientnet_lite0", "mobilenetv2", "vgg16")


def preferred() -> str:
    """Returns the first of `PREFERRED` whose weights are on this machine; Lite0 comes with knowngood itself."""
    return next((name for name in PREFERRED if available(name)), "efficientnet_lite0")

"""Margin and class activation map as two outputs of one graph, for the runtimes that a recipe is exported to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from knowngood.errors import ConfigError
from knowngood.explain.maps import has_cam
from knowngood.models.classifier import Classifier


class MarginAndMap(nn.Module):
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
        """Returns margins (B,) and raw maps (B, h, w) float32 of photographs (B, C, H, W) uint8."""
        maps = self.classifier.trunk.forward_features(self.classifier.normalise(images))
        layer = self.classifier.head_layer()
        weight = (layer.weight[1] - layer.weight[0]).to(maps.dtype)
        heat = torch.einsum("bchw,c->bhw", maps, weight).float()
        assert layer.bias is not None
        return heat.mean((1, 2)) + (layer.bias[1] - layer.bias[0]), heat

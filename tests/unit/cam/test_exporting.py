"""One graph with margin and map gives what the classifier and CAM give."""

from __future__ import annotations

import pytest
import torch

from knowngood.cam.maps import layer_maps, method_for
from knowngood.errors import ConfigError
from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.recipe.graphs import RawScoreAndMap


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_margin_and_map_equal_classifier_and_cam_also_as_a_saved_graph(backbone: str) -> None:
    torch.manual_seed(0)
    classifier = Classifier(NetworkConfig(backbone=backbone, height=64, width=96, channels=1)).eval()
    images = torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8)
    wanted = layer_maps(classifier, images, method_for(classifier, "cam"))
    graph = torch.export.export(RawScoreAndMap(classifier), (images,)).module()
    with torch.no_grad():
        for module in (RawScoreAndMap(classifier), graph):
            raw_scores, heat = module(images)
            torch.testing.assert_close(raw_scores, wanted.raw_scores, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(heat, next(iter(wanted.maps.values())), atol=1e-4, rtol=1e-4)


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a map"):
        RawScoreAndMap(Classifier(NetworkConfig(backbone="vgg16", height=64, width=64, channels=1)))

"""Every registered network can be built, scores photographs, and gives the stages and the head it promises."""

import pytest
import torch

from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Classifier, NetworkConfig


@pytest.fixture(scope="module", params=list(BACKBONES))
def built(request):
    stages = BACKBONES.get(request.param).stages
    linear = NetworkConfig(backbone=request.param, height=64, width=96, channels=1, stages=stages)
    torch.manual_seed(0)
    return request.param, Classifier(linear).eval()


def test_one_margin_a_photograph(built):
    _, classifier = built
    images = torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        raw_scores = classifier(images)
    assert raw_scores.shape == (3,)
    assert raw_scores.dtype == torch.float32
    assert torch.isfinite(raw_scores).all()


def test_stage_features_have_the_length_it_says(built):
    _, classifier = built
    with torch.inference_mode():
        rows = classifier.stage_features(torch.zeros(2, 1, 64, 96, dtype=torch.uint8))
    assert rows.shape == (2, classifier.feature_length)


def test_the_last_layer_has_two_outputs(built):
    assert built[1].head_layer().out_features == 2


def test_a_pooled_head_is_linear_in_averaged_maps(built):
    """What CAM stands on: averaging the maps and applying the last layer gives the network's own outputs."""
    name, classifier = built
    if not BACKBONES.get(name).pooled_head:
        pytest.skip("this network has more between its maps and its outputs")
    images = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        maps = classifier.trunk.forward_features(classifier.normalise(images))
        by_hand = classifier.head_layer()(maps.mean((2, 3)))
        assert torch.allclose(by_hand, classifier.logits(images), atol=1e-4)


def test_stages_get_coarser(built):
    name, classifier = built
    with torch.inference_mode():
        maps = classifier.trunk.forward_intermediates(
            torch.zeros(1, 3, 128, 128), indices=list(BACKBONES.get(name).stages), intermediates_only=True
        )
    heights = [m.shape[2] for m in maps]
    assert heights == sorted(heights, reverse=True)

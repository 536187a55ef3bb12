"""Scores must not depend on company, on the layout of memory, or on how an inspector was put together."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knowngood.errors import ConfigError, UnknownNameError
from knowngood.models.backbones import BACKBONES, Backbone
from knowngood.models.batching import over_batches
from knowngood.models.classifier import (
    Classifier,
    Inspector,
    NetworkConfig,
    common_shape,
    input_size,
    network_for,
    svm_config,
)
from knowngood.models.heads import pool_stages
from knowngood.models.weights.files import IMAGENET_MEAN, IMAGENET_STD, Weights
from knowngood.models.weights.search import find


def config(**changes):
    return NetworkConfig(**{"backbone": "resnet18", "height": 64, "width": 64, "channels": 1, **changes})


@pytest.fixture(scope="module")
def inspector():
    torch.manual_seed(1)
    return Inspector((config(),)).eval()


def test_a_score_does_not_depend_on_its_batch(inspector):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 64, 64), dtype=np.uint8)
    together = over_batches(inspector, inspector, pixels, np.arange(40), "")
    alone = np.concatenate([over_batches(inspector, inspector, pixels, np.array([i]), "") for i in range(40)])
    assert np.allclose(together, alone, atol=1e-5)


def test_grey_is_the_colour_network_on_three_equal_channels():
    torch.manual_seed(0)
    grey = Classifier(config()).eval()
    colour = Classifier(config(channels=3)).eval()
    colour.load_state_dict(grey.state_dict())
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-5)


def test_members_are_added_with_their_scales():
    torch.manual_seed(0)
    pair = Inspector((config(), config(height=32, width=32))).eval()
    pair.scales.copy_(torch.tensor([0.5, 2.0]))
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        by_hand = 0.5 * pair.members[0](images) + 2 * pair.members[1](images)
        assert torch.allclose(pair(images), by_hand)
    assert common_shape(pair.configs) == (1, 64, 64)


def test_grey_and_colour_members_cannot_share_an_inspector():
    with pytest.raises(ConfigError, match="grey"):
        Inspector((config(), config(channels=3)))


def test_a_wrong_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="resnet18"):
        Classifier(config(backbone="resnet81"))


def test_strides_move_without_changing_the_maps_size():
    from knowngood.models.classifier import Classifier

    images = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    plain = Classifier(config(backbone="resnet50", stages=(4,)))
    moved = Classifier(config(backbone="resnet50", stages=(4,), strided_1x1=True, norm_epsilon=1e-3))
    assert moved.trunk.layer2[0].conv1.stride == (2, 2)
    assert moved.trunk.layer2[0].conv2.stride == (1, 1)
    assert moved.trunk.bn1.eps == 1e-3
    with torch.inference_mode():
        assert plain.stage_features(images).shape == moved.stage_features(images).shape


@pytest.mark.parametrize(
    ("sizes", "area", "expected"),
    [
        ([(300, 300)], 224, (224, 224)),
        ([(267, 275)] * 5, 224, (224, 224)),
        ([(100, 400)], 224, (128, 448)),
        ([(1, 1000)], 64, (32, 128)),
        ([(300, 300)] * 3 + [(10, 999)] * 2, 128, (128, 128)),
    ],
)
def test_input_size_keeps_the_usual_proportions(sizes, area, expected):
    assert input_size(sizes, area) == expected


@pytest.fixture
def front():
    name = "a front of resnet18"
    BACKBONES.register(name, Backbone("resnet18", "for tests", stages=(1, 2), blocks=(2, 1), weights_of="resnet18"))
    yield name
    BACKBONES.unregister(name)


def weights_of_resnet18():
    import timm

    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    return Weights(state, IMAGENET_MEAN, IMAGENET_STD, False, None, True, "random numbers", "none")


def test_a_front_gives_what_the_first_blocks_of_the_whole_give(front):
    weights = weights_of_resnet18()
    short = Classifier(svm_config(network_for(front, weights, 64, 64, 1))).eval()
    short.load_trunk(weights)
    import timm

    whole = timm.create_model("resnet18").eval()
    whole.load_state_dict(weights.state)
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        stem = whole.maxpool(whole.act1(whole.bn1(whole.conv1(short.normalise(images)))))
        first = whole.layer1(stem)
        by_hand = pool_stages([first, whole.layer2[0](first)])
        assert torch.equal(short.stage_features(images), by_hand)


def test_a_front_holds_nothing_of_what_is_left_out_and_its_head_sees_its_last_stage(front):
    linear = Classifier(config(backbone=front)).eval()
    assert linear.head_layer().in_features == 128
    gone = ("trunk.layer3", "trunk.layer4", "trunk.layer2.1")
    assert not [name for name in linear.state_dict() if name.startswith(gone)]
    with torch.inference_mode():
        images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
        maps = linear.trunk.forward_features(linear.normalise(images))
        assert torch.allclose(linear.head_layer()(maps.mean((2, 3))), linear.logits(images), atol=1e-5)


def test_a_front_finds_the_weights_of_the_whole(front, tmp_path):
    save_file(weights_of_resnet18().state, tmp_path / "resnet18.safetensors")
    assert torch.equal(find(front, tmp_path).state["conv1.weight"], weights_of_resnet18().state["conv1.weight"])

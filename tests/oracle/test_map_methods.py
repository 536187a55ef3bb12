"""Maps equal those of pytorch-grad-cam; CAM equals the weighted sum computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from knowngood.cam.maps import layer_maps, method_for
from knowngood.cam.methods import METHODS
from knowngood.models.classifier import Classifier, NetworkConfig

LAYERS = {"resnet18": ("layer1", "layer2", "layer3", "layer4"), "vgg16": ("features.22", "features.29")}
OURS = {"gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "layercam": "LayerCAM", "hirescam": "HiResCAM"}


class Logits(nn.Module):
    """What pytorch-grad-cam is given: the same network, from the same raw values."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.logits(images)


def margin(output: Tensor) -> Tensor:
    return output[1] - output[0]


@pytest.fixture(scope="module", params=list(LAYERS))
def classifier(request: pytest.FixtureRequest) -> Classifier:
    torch.manual_seed(0)
    made = Classifier(NetworkConfig(backbone=request.param, height=64, width=96, channels=1)).eval()
    with torch.no_grad():  # deep random networks put out nearly nothing: a map of rounding noise proves nothing
        for layer in made.trunk.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.2, 0.5)
            if isinstance(layer, nn.Conv2d) and request.param == "vgg16":
                nn.init.kaiming_normal_(layer.weight)
        made.head_layer().weight[0].normal_(-1, 0.3)  # bad gains by what is there: no method's maps are all 0
        made.head_layer().weight[1].normal_(1, 0.3)
    return made


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 1, 64, 96), generator=generator, dtype=torch.uint8)


def scaled(heat: np.ndarray) -> np.ndarray:
    """Divides by the maximum, so that 1e-4 means the same for every method and layer."""
    return heat / np.abs(heat).max()


@pytest.mark.parametrize("name", OURS)
def test_equal_to_pytorch_grad_cam(classifier: Classifier, images: Tensor, name: str) -> None:
    import pytorch_grad_cam

    for layer in LAYERS[classifier.config.backbone]:
        target = classifier.trunk.get_submodule(layer)
        with getattr(pytorch_grad_cam, OURS[name])(Logits(classifier), [target]) as theirs:
            theirs(images.float(), [margin] * len(images))
            raw = theirs.get_cam_image(
                images,
                target,
                [margin] * len(images),
                theirs.activations_and_grads.activations[0].numpy(),
                theirs.activations_and_grads.gradients[0].numpy(),
                False,
            )
        ours = layer_maps(classifier, images, method_for(classifier, name), layer).maps[layer].numpy()
        wanted = raw if METHODS.get(name).signed else np.maximum(raw, 0)
        assert np.abs(wanted).max() > 0, "a map of zeros would compare equal to anything"
        np.testing.assert_allclose(scaled(ours), scaled(wanted), atol=1e-4)


def test_eigencam_equal_to_pytorch_grad_cam_up_to_its_open_sign(classifier: Classifier, images: Tensor) -> None:
    from pytorch_grad_cam import EigenCAM

    layer = LAYERS[classifier.config.backbone][-1]
    target = classifier.trunk.get_submodule(layer)
    with EigenCAM(Logits(classifier), [target]) as theirs:
        theirs(images.float(), [margin] * len(images))
        found = theirs.activations_and_grads.activations[0].numpy()
        raw = theirs.get_cam_image(images, target, None, found, None, False)
    ours = layer_maps(classifier, images, method_for(classifier, "eigencam"), layer).maps[layer].numpy()
    for one, two in zip(ours, raw, strict=True):
        off = min(np.abs(scaled(one) - scaled(np.maximum(sign * two, 0))).max() for sign in (1, -1))
        assert off < 1e-4


def test_cam_is_the_weighted_sum_and_its_average_the_margin(images: Tensor) -> None:
    torch.manual_seed(3)
    classifier = Classifier(NetworkConfig(backbone="resnet18", height=64, width=96, channels=1)).eval()
    made = layer_maps(classifier, images, method_for(classifier, "cam"))
    with torch.no_grad():
        maps = classifier.trunk.forward_features(classifier.normalise(images)).numpy()
        weight, bias = (t.numpy() for t in (classifier.head_layer().weight, classifier.head_layer().bias))
        raw_scores = classifier(images).numpy()
    by_hand = np.zeros((3, 2, 3))
    for b in range(3):
        for k in range(512):
            by_hand[b] += (weight[1, k] - weight[0, k]) * maps[b, k].astype(np.float64)
    (ours,) = made.maps.values()
    np.testing.assert_allclose(ours.numpy(), by_hand, atol=1e-4)
    np.testing.assert_allclose(ours.mean((1, 2)).numpy() + bias[1] - bias[0], raw_scores, atol=1e-4)
    np.testing.assert_allclose(made.raw_scores.numpy(), raw_scores, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_cam_is_gradcam_up_to_a_constant_on_a_pooled_network(images: Tensor, backbone: str) -> None:
    torch.manual_seed(4)
    classifier = Classifier(NetworkConfig(backbone=backbone, height=64, width=96, channels=1)).eval()
    (cam,) = layer_maps(classifier, images, method_for(classifier, "cam")).maps.values()
    (gradcam,) = layer_maps(classifier, images, method_for(classifier, "gradcam")).maps.values()
    (hirescam,) = layer_maps(classifier, images, method_for(classifier, "hirescam")).maps.values()
    places = cam.shape[1] * cam.shape[2]
    torch.testing.assert_close(cam.relu() / places, gradcam, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(cam, hirescam, atol=1e-4, rtol=1e-3)

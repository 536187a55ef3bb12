"""Maps of classifiers: layers and methods by name, hooks gone afterwards, things found where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from knowngood.cam.maps import (
    LayerOutputs,
    cells_of,
    heat_of,
    layer_maps,
    layer_names,
    method_for,
    placed_maps,
    stage_names,
)
from knowngood.cam.methods import METHODS
from knowngood.errors import ConfigError, UnknownNameError
from knowngood.models.classifier import Classifier, Inspector, NetworkConfig
from knowngood.recipe.maps import at_size


def network(backbone: str = "resnet18", **more: object) -> Classifier:
    torch.manual_seed(0)
    config = {"backbone": backbone, "height": 64, "width": 64, "channels": 1} | more
    return Classifier(NetworkConfig.model_validate(config)).eval()


def noise(count: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 1, height, width), generator=generator, dtype=torch.uint8)


def test_layers_have_names() -> None:
    classifier = network()
    assert layer_names(classifier) == ("layer4",)
    assert layer_names(classifier, "all") == ("layer1", "layer2", "layer3", "layer4")
    assert layer_names(classifier, "layer2.0, last") == ("layer2.0", "layer4")
    assert stage_names(network("efficientnet_lite0"))[-1] == "bn2"
    with pytest.raises(UnknownNameError, match="layer5") as caught:
        layer_names(classifier, "layer5")
    assert "layer1, layer2, layer3, layer4" in str(caught.value)


def test_cam_without_pooling_says_what_to_use_instead() -> None:
    with pytest.raises(ConfigError, match="gradcam"):
        method_for(network("vgg16"), "cam")
    with pytest.raises(ConfigError, match="SVM head"):
        method_for(network(head="kernel", stages=(3, 4), supports=3), "cam")
    with pytest.raises(ConfigError, match="last stage"):
        layer_maps(network(), noise(), METHODS.get("cam"), "all")
    with pytest.raises(UnknownNameError, match="gradcam"):
        method_for(network(), "gradcan")


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_as_before_whatever_happened(fails: bool) -> None:
    classifier = network()
    before = {name: parameter.requires_grad for name, parameter in classifier.trunk.named_parameters()}
    try:
        with LayerOutputs(classifier.trunk, ["layer2", "layer4"], gradients=True) as recorded:
            raw_scores = classifier(noise())
            assert set(recorded.gradients_of(raw_scores)) == {"layer2", "layer4"}
            if fails:
                raise RuntimeError("inside")
    except RuntimeError:
        assert fails
    assert {name: parameter.requires_grad for name, parameter in classifier.trunk.named_parameters()} == before
    assert all(not module._forward_hooks for module in classifier.modules())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_a_layer_that_is_not_there_leaves_nothing_behind() -> None:
    classifier = network()
    with torch.inference_mode():
        with pytest.raises(AttributeError), LayerOutputs(classifier.trunk, ["layer2", "layer9"], gradients=True):
            pass
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
    assert all(not module._forward_hooks for module in classifier.modules())
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_watching_changes_no_margin_and_works_inside_inference_mode() -> None:
    classifier, images = network(), noise()
    with torch.inference_mode():
        plain = classifier(images)
        for name, method in METHODS.items():
            made = layer_maps(classifier, images, method, "last" if name == "cam" else "all")
            torch.testing.assert_close(made.raw_scores, plain)
            assert all(torch.isfinite(heat).all() for heat in made.maps.values()), name


def test_a_flat_picture_gives_no_nan() -> None:
    classifier = network()
    for name, method in METHODS.items():
        made = layer_maps(classifier, torch.zeros(1, 1, 64, 64, dtype=torch.uint8), method, "last")
        assert all(torch.isfinite(heat).all() for heat in made.maps.values()), name


def test_maps_of_an_svm_head_lay_out_its_slope() -> None:
    """The average of a map is the derivative of the margin by the size of what the stage puts out."""
    classifier = network(head="kernel", stages=(2, 3, 4), supports=5)
    head = classifier.head
    assert head is not None
    with torch.no_grad():
        rows = classifier.stage_features(noise(5))
        head.mean.copy_(rows.mean(0))
        head.scale.fill_(rows.std())
        head.support.copy_((rows - head.mean) / head.scale)
        head.alpha.copy_(torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0]))
        head.gamma.fill_(1e-3)
    image, step, width = noise(1), 1e-3, 2 * 512
    own = layer_maps(classifier, image, method_for(classifier), "layer4").maps["layer4"].mean()
    with torch.no_grad():
        more, less = (classifier.stage_features(image) for _ in range(2))
        more[:, -width:] *= 1 + step
        less[:, -width:] *= 1 - step
        slope = float((head(more) - head(less)) / (2 * step))
    assert float(own) == pytest.approx(slope, rel=0.02)


def test_members_add_their_maps_as_their_raw_scores() -> None:
    configs = tuple(
        NetworkConfig(backbone="resnet18", height=size, width=size, channels=1, head="linear") for size in (64, 32)
    )
    torch.manual_seed(1)
    inspector = Inspector(configs).eval()
    inspector.scales.copy_(torch.tensor([0.5, 2.0]))
    images = noise()
    raw_scores, heat = heat_of(inspector, images)
    with torch.no_grad():
        torch.testing.assert_close(raw_scores, inspector(images))
    first, second = (
        placed_maps(member, images, method_for(member)).maps["layer4"]  # type: ignore[arg-type]
        for member in inspector.members
    )
    torch.testing.assert_close(heat, 0.5 * first + 2.0 * second)


class Brightness(nn.Module):
    """A trunk whose last maps are the picture itself, averaged over 8 x 8: it looks exactly where it is bright."""

    num_features = 1
    feature_info = ({"module": "maps", "num_chs": 1},) * 5

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.AvgPool2d(8)
        self.fc = nn.Linear(1, 2, bias=False)
        nn.init.constant_(self.fc.weight[0], -1.0)
        nn.init.constant_(self.fc.weight[1], 1.0)

    def get_classifier(self) -> nn.Linear:
        return self.fc

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.maps(images.mean(1, keepdim=True)).mean((2, 3)))
        return out


@pytest.mark.parametrize("size", [(275, 267), (103, 403), (224, 224), (64, 64)])
@pytest.mark.parametrize("method", ["cam", "gradcam", "layercam", "hirescam"])
def test_a_white_square_is_found_where_it_is(size: tuple[int, int], method: str) -> None:
    from knowngood.data.pixels import fit

    height, width = size
    classifier = network(height=128, width=160)
    classifier.trunk = Brightness()
    image = np.zeros((height, width), np.uint8)
    top, left = int(0.62 * height), int(0.23 * width)
    image[top : top + height // 8, left : left + width // 8] = 255
    images = torch.from_numpy(fit(image, 128, 160, 1)[None])
    (placed,) = placed_maps(classifier, images, method_for(classifier, method)).maps.values()
    heat = at_size(placed[0].numpy(), *size)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    cell = (height / 16, width / 20)
    assert top - cell[0] <= y <= top + height // 8 + cell[0]
    assert left - cell[1] <= x <= left + width // 8 + cell[1]
    centre = [(heat * axis).sum() / heat.sum() for axis in np.indices(heat.shape)] if heat.min() >= 0 else None
    if centre is not None:
        assert abs(centre[0] - (top + height / 16)) < cell[0]
        assert abs(centre[1] - (left + width / 16)) < cell[1]


OFFSETS = {  # stride and offset of the last stage, summed by hand over the paddings
    "resnet18": (32, 0.0),  # 3, 1, 1, 1, 1 pixels of padding under kernels of 7 and 3: always over pixel 2i
    "vgg16": (16, 7.5),  # four poolings of 2 x 2: 0.5 (1 + 2 + 4 + 8)
    "efficientnet_lite0": (32, 31.0),  # TensorFlow pads behind first: 1 + 2 + 4 + 8 + 16
}


@pytest.mark.parametrize("backbone", list(OFFSETS))
def test_a_cell_lies_where_paddings_and_strides_put_it(backbone: str) -> None:
    classifier = network(backbone)
    names = stage_names(classifier)
    found = cells_of(classifier, names)
    assert set(found) == set(names)
    stride, offset = OFFSETS[backbone]
    assert (found[names[-1]].stride, found[names[-1]].offset) == ((stride, stride), (offset, offset))
    assert all(not module._forward_hooks for module in classifier.modules())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "vgg16", "efficientnet_lite0", "mobilenetv2"])
def test_what_a_small_square_changes_is_drawn_over_the_square(backbone: str) -> None:
    """Random networks: what changes must lie over the square, to 0.3 of a cell; an even stretch is 0.44 off."""
    classifier = network(backbone, height=128, width=128)
    name = stage_names(classifier)[1]
    cells = cells_of(classifier, (name,))[name]
    axes = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    off = []
    for y, x in ((60, 52), (44, 71), (51, 63), (66, 41)):
        picture = torch.full((2, 1, 128, 128), 120, dtype=torch.uint8)
        picture[1, :, y : y + 8, x : x + 8] = 255
        with LayerOutputs(classifier.trunk, [name], gradients=False) as recorded:
            classifier(picture)
            seen = recorded.outputs[name]
        heat = cells.enlarged((seen[1] - seen[0]).square().sum(0, keepdim=True), (128, 128))[0].double()
        centre = [float((heat * axis).sum() / heat.sum()) for axis in axes]
        off.append((centre[0] - y - 3.5, centre[1] - x - 3.5))
    assert np.abs(np.mean(off, axis=0)).max() < 0.3 * cells.stride[0]

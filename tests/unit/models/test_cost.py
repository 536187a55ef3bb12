"""What networks cost, against a calculation by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from knowngood.models import cost
from knowngood.models.batching import BATCH
from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.models.cost import cost_of, images_per_second


def described(backbone: str, side: int = 224) -> NetworkConfig:
    return NetworkConfig(backbone=backbone, height=side, width=side, channels=3)


def resnet18_by_hand(side: int) -> tuple[int, int]:
    """Parameters and multiply-adds of ResNet-18 with two outputs, layer by layer from table 1 of He et al. 2016."""

    def conv(inside: int, outside: int, kernel: int, out_side: int) -> tuple[int, int]:
        weights = inside * outside * kernel**2
        return weights + 2 * outside, weights * out_side**2  # each is followed by a batch norm: scale and shift

    side = side // 2
    layers = [conv(3, 64, 7, side)]
    side = side // 2  # pooling
    inside = 64
    for stage, outside in enumerate((64, 128, 256, 512)):
        side = side if stage == 0 else side // 2
        layers += [conv(inside, outside, 3, side), conv(outside, outside, 3, side)]
        layers += [conv(inside, outside, 1, side)] if stage else []
        layers += [conv(outside, outside, 3, side)] * 2
        inside = outside
    parameters, arithmetic = (sum(column) for column in zip(*layers, strict=True))
    return parameters + 512 * 2 + 2, arithmetic + 512 * 2


@pytest.mark.parametrize("side", [64, 224])
def test_resnet18_by_hand(side: int) -> None:
    found = cost_of(described("resnet18", side))
    assert (found.parameters, found.multiply_adds) == resnet18_by_hand(side)
    assert found.flops == 2 * found.multiply_adds


@pytest.mark.parametrize("backbone", ["resnext50_32x4d", "efficientnet_lite0", "vgg16"])
def test_groups_and_linear_layers_count_as_they_compute(backbone: str) -> None:
    """Counted a second time by what each layer really saw: grouped and depthwise convolutions are the pitfall."""
    classifier = Classifier(described(backbone, 64)).eval()
    seen = []

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            each = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            seen.append(out.numel() * each)
        elif isinstance(layer, nn.Linear):
            seen.append(out.numel() * layer.in_features)

    for layer in classifier.modules():
        layer.register_forward_hook(count)
    with torch.inference_mode():
        classifier(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert cost_of(described(backbone, 64)).multiply_adds == sum(seen)


@pytest.mark.parametrize(
    ("backbone", "millions", "billions"),
    [("resnet50", 23.5, 4.1), ("wide_resnet50_2", 66.8, 11.4), ("resnext50_32x4d", 23.0, 4.2), ("vgg16", 134.3, 15.5)],
)
def test_published_figures(backbone: str, millions: float, billions: float) -> None:
    found = cost_of(described(backbone))
    assert found.parameters / 1e6 == pytest.approx(millions, abs=0.05)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, rel=0.02)


def test_speeds_are_medians_of_rounds_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [(100.0, 100.0), (1.0, 2.0), (3.0, 6.0), (2.0, 4.0), (4.0, 8.0), (90.0, 180.0)]  # the first warms up
    assert len(rounds) == cost.ROUNDS + 1
    ticks = iter([tick for both in rounds for each in both for tick in (0.0, each)])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    speeds = images_per_second({"one": described("resnet18", 32), "other": described("resnet18", 32)})
    assert speeds == {"one": BATCH / 3, "other": BATCH / 6}

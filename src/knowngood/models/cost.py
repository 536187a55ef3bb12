"""What a network costs: parameters, arithmetic for one photograph, photographs a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import torch
from torch.utils.flop_counter import FlopCounterMode

from knowngood.models.batching import batch_for
from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.progress import track

ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """What one photograph asks of a network.

    Attributes:
        parameters: Numbers that it has learned, the last layer with its two outputs included.
        multiply_adds: Multiplications with their additions of convolutions and linear layers, for one photograph.
    """

    parameters: int
    multiply_adds: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two a multiply-add."""
        return 2 * self.multiply_adds


def cost_of(config: NetworkConfig) -> Cost:
    """Counts a network without computing anything.

    Args:
        config: With a linear head; the arithmetic is that of its own height and width.
    """
    with torch.device("meta"):
        classifier = Classifier(config).eval()
        image = torch.empty(1, config.channels, config.height, config.width, dtype=torch.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        classifier(image)
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)


def images_per_second(networks: Mapping[str, NetworkConfig]) -> dict[str, float]:
    """Measures prediction as recipes do it: float32, batches of 32, on the GPU where there is one.

    The networks take turns, so that what else the computer does falls on all of them; the median round counts.

    Args:
        networks: Name to configuration; tensors do not matter and are random.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    built = {
        name: Classifier(config).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, config in networks.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for turn in track(range(ROUNDS + 1), "images a second"):
        for name, network in built.items():
            took = _seconds(network, device)
            if turn:  # the first round warms up
                seconds[name].append(took)
    return {
        name: batch_for(networks[name].height, networks[name].width) / statistics.median(each)
        for name, each in seconds.items()
    }


def _seconds(network: Classifier, device: torch.device) -> float:
    config = network.config
    shape = (batch_for(config.height, config.width), config.channels, config.height, config.width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    started = time.perf_counter()
    with torch.inference_mode():
        network(images.to(device)).cpu()
    return time.perf_counter() - started

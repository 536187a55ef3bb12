"""What maps cost: our CAM and Grad-CAM beside pytorch-grad-cam's Grad-CAM, ResNet-18 at 224 px, batches of 32.

All ways take turns in one process, a batch each, so that a busy machine disturbs all of them alike; medians, and their
ratios. With OpenVINO and NNCF installed also the exported graph, which gives margin and map together, in bf16 and int8.

    python benchmarks/map_speed.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from knowngood.cam.maps import layer_maps, method_for
from knowngood.files import write_json
from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.recipe.graphs import RawScoreAndMap
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "map_speed.json"
BATCH, SIZE = 32, 224
Way = Callable[[], object]


class Logits(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.logits(images)


@contextlib.contextmanager
def bf16() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(NetworkConfig(backbone="resnet18", height=SIZE, width=SIZE, channels=1)).eval()


def ways(images: Tensor) -> dict[str, Way]:
    from pytorch_grad_cam import GradCAM

    plain, ordered = network(), network().to(memory_format=torch.channels_last)
    theirs = GradCAM(Logits(plain), [plain.trunk.layer4])
    targets = [lambda output: output[1] - output[0]] * BATCH

    def maps(name: str, fast: bool) -> Way:
        method = method_for(ordered, name)

        def run() -> object:
            with bf16() if fast else contextlib.nullcontext():
                return layer_maps(ordered, images, method)

        return run

    def predict(fast: bool) -> Way:
        def run() -> object:
            with torch.inference_mode(), bf16() if fast else contextlib.nullcontext():
                return ordered(images)

        return run

    made: dict[str, Way] = {
        "pytorch-grad-cam Grad-CAM, fp32": lambda: theirs(images.float(), targets),
        "our Grad-CAM, fp32": maps("gradcam", False),
        "our Grad-CAM, bf16": maps("gradcam", True),
        "our CAM, fp32": maps("cam", False),
        "our CAM, bf16": maps("cam", True),
        "prediction without map, fp32": predict(False),
        "prediction without map, bf16": predict(True),
    }
    return made | exported(plain, images)


def exported(classifier: Classifier, images: Tensor) -> dict[str, Way]:
    """Margin and map, and margin alone, as graphs of OpenVINO."""
    try:
        import nncf
        import openvino as ov
    except ImportError:
        return {}
    core, array = ov.Core(), images.numpy()
    made: dict[str, Way] = {}
    for name, module in (("margin and CAM", RawScoreAndMap(classifier)), ("margin alone", classifier)):
        graph = ov.convert_model(module, example_input=images)
        graph.reshape([BATCH, 1, SIZE, SIZE])
        rng = np.random.default_rng(0)
        sample = nncf.Dataset([rng.integers(0, 256, array.shape, np.uint8) for _ in range(4)])
        for precision, model in (("bf16", graph), ("int8", nncf.quantize(graph, sample, subset_size=4))):
            compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1"})
            made[f"exported {name}, {precision}"] = lambda compiled=compiled: compiled(array)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    images = torch.randint(0, 256, (BATCH, 1, SIZE, SIZE), dtype=torch.uint8)
    every = ways(images)
    for way in every.values():
        way()
    took: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(given.rounds):
        for name, way in every.items():
            started = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - started)
    rates = {name: BATCH / statistics.median(times) for name, times in took.items()}
    base = rates["pytorch-grad-cam Grad-CAM, fp32"]
    document: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "images/s": {name: round(rate, 1) for name, rate in rates.items()},
        "times pytorch-grad-cam": {name: round(rate / base, 2) for name, rate in rates.items()},
        "cost of a map beside a prediction": {
            kind: round(rates[plain] / rates[mapped], 3)
            for kind, plain, mapped in (
                ("PyTorch fp32", "prediction without map, fp32", "our CAM, fp32"),
                ("PyTorch bf16", "prediction without map, bf16", "our CAM, bf16"),
                ("OpenVINO bf16", "exported margin alone, bf16", "exported margin and CAM, bf16"),
                ("OpenVINO int8", "exported margin alone, int8", "exported margin and CAM, int8"),
            )
            if plain in rates
        },
        "load of the machine before": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    print(document)
    write_json(RESULT, document)


if __name__ == "__main__":
    main()

"""What this machine can do at most: the rate of large matrix products and convolutions in each precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from knowngood.packages import installed
from knowngood.telemetry import switch_off

SIDE = 1024
_CHANNELS, _PLACES, _LAYERS = 256, 28, 6


@dataclass(frozen=True)
class Load:
    """Arithmetic that a machine does as quickly as it can.

    Attributes:
        gflop: 10^9 operations that one call does (a multiplication and an addition are two).
        run: Does them.
    """

    gflop: float
    run: Callable[[], object]


def loads() -> dict[str, Load]:
    """Returns precision to what shows the machine's limit in it.

    fp32 and bf16 are square products by PyTorch (oneDNN). int8 is a stack of 3x3 convolutions by OpenVINO, which is
    what int8 networks consist of; it is left out where OpenVINO is not installed.
    """
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(2, SIDE, SIDE).to(kind)
        found[name] = Load(2 * SIDE**3 / 1e9, lambda a=left, b=right: a @ b)  # type: ignore[misc]
    if installed("openvino"):
        found["int8"] = _int8()
    return found


def _int8() -> Load:
    switch_off()
    import openvino
    from openvino import opset13 as ops

    def quantised(node: object, low: float, high: float, levels: int) -> object:
        ends = [np.array(value, np.float32) for value in (low, high, low, high)]
        return ops.fake_quantize(node, *ends, levels)

    shape = [4, _CHANNELS, _PLACES, _PLACES]
    images = ops.parameter(shape, np.float32)
    rng, node = np.random.default_rng(0), images
    for _ in range(_LAYERS):
        weight = rng.normal(0, 0.02, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        node = ops.convolution(
            quantised(node, 0.0, 2.55, 256),
            quantised(ops.constant(weight), -0.1, 0.1, 255),
            [1, 1],
            [1, 1],
            [1, 1],
            [1, 1],
        )
        node = ops.relu(node)
    model = openvino.Model([node], [images], "peak")
    compiled = openvino.Core().compile_model(model, "CPU", {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"})
    work = 2 * _LAYERS * shape[0] * _CHANNELS * _CHANNELS * 9 * _PLACES**2
    given = rng.random(shape, np.float32)
    return Load(work / 1e9, lambda: compiled(given))

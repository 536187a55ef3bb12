"""Where a cell of a layer's map lies in the picture: its middle is seldom where an even stretch would put it.

A 3x3 convolution of stride 2 with one pixel of padding puts cell i over pixel 2i, a 2x2 pooling over 2i + 0.5, and
TensorFlow's padding over 2i + 1. After five of them these are 31 pixels apart, a whole cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from knowngood.models.classifier import Classifier

_Pair = tuple[float, float]


@dataclass(frozen=True)
class Cells:
    """The middle of cell i lies over pixel `stride * i + offset` of the network's input, rows and columns apart.

    Attributes:
        stride: Pixels of the network's input between two cells.
        offset: Pixel over which the first cell lies.
    """

    stride: _Pair
    offset: _Pair

    def enlarged(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns maps (B, h, w) at the network's input size (height, width), bilinear, ends repeated."""
        axes = []
        for length, cells, stride, offset in zip(size, maps.shape[1:], self.stride, self.offset, strict=True):
            place = ((torch.arange(length) - offset) / stride).clamp(0, cells - 1)
            axes.append(2 * (place + 0.5) / cells - 1)
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).to(maps)
        made = functional.grid_sample(
            maps[:, None].float(),
            grid.expand(len(maps), -1, -1, -1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return made[:, 0]


_known: WeakKeyDictionary[Classifier, dict[str, Cells]] = WeakKeyDictionary()


def cells_of(classifier: Classifier, layers: tuple[str, ...]) -> dict[str, Cells]:
    """Returns where the cells of layers lie; found once for each classifier, since many batches ask."""
    known = _known.setdefault(classifier, {})
    if missing := tuple(name for name in layers if name not in known):
        known |= _traced(classifier, missing)
    return {name: known[name] for name in layers}


def _traced(classifier: Classifier, layers: tuple[str, ...]) -> dict[str, Cells]:
    """Returns where the cells of layers lie, from the paddings and strides of what comes before each.

    Args:
        classifier: Left as it was; looks at one empty picture.
        layers: Names from `layer_names`.

    Reference:
        Araujo et al. 2019, "Computing receptive fields of convolutional neural networks" (Distill), the centre.
    """
    steps: dict[tuple[int, int], tuple[int, _Pair, _Pair]] = {}  # input size: kernel, stride, offset of the step
    found: dict[str, Cells] = {}

    def step(module: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        size = (int(given[0].shape[2]), int(given[0].shape[3]))
        kernel, strides, offsets = _geometry(module, size)
        if max(strides) > 1 and (size not in steps or kernel > steps[size][0]):  # not the shortcut beside it
            steps[size] = (kernel, strides, offsets)

    def reached(name: str) -> None:
        stride, offset = (1.0, 1.0), (0.0, 0.0)
        for _, strides, offsets in reversed(steps.values()):
            offset = (strides[0] * offset[0] + offsets[0], strides[1] * offset[1] + offsets[1])
            stride = (strides[0] * stride[0], strides[1] * stride[1])
        found[name] = Cells(stride, offset)

    strided = [m for m in classifier.trunk.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))]
    handles = [module.register_forward_hook(step) for module in strided]
    for name in layers:
        layer = classifier.trunk.get_submodule(name)
        handles.append(layer.register_forward_hook(lambda *_, name=name: reached(name)))
    config = classifier.config
    try:
        with torch.no_grad():
            empty = torch.zeros(1, config.channels, config.height, config.width, dtype=torch.uint8)
            classifier(empty.to(classifier.mean.device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _geometry(module: nn.Module, size: tuple[int, int]) -> tuple[int, _Pair, _Pair]:
    """Returns kernel, strides and the pixel over which the first output lies, rows and columns."""
    kernels, strides = _two(module.kernel_size), _two(module.stride)
    offsets = []
    for side, kernel, stride, padding in zip(size, kernels, strides, _paddings(module), strict=True):
        before = padding
        if isinstance(module, Conv2dSame):
            before = max((-(-side // stride) - 1) * stride + kernel - side, 0) // 2
        offsets.append((kernel - 1) / 2 - before)
    return max(kernels), (float(strides[0]), float(strides[1])), (offsets[0], offsets[1])


def _paddings(module: nn.Module) -> tuple[int, int]:
    given = module.padding
    return (0, 0) if isinstance(given, str) else _two(given)


def _two(value: object) -> tuple[int, int]:
    pair = value if isinstance(value, tuple) else (value, value)
    return int(pair[0]), int(pair[1])

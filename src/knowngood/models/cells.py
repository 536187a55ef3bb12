"""Where the cells of a layer's maps lie over the picture, and how maps of several layers come onto one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

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

    def scaled(self, before: Sequence[int], after: Sequence[int]) -> Cells:
        """Returns the position over the same picture brought from `before` to `after` rows and columns of pixels."""
        factors = [new / old for new, old in zip(after, before, strict=True)]
        offsets = [(at + 0.5) * factor - 0.5 for at, factor in zip(self.offset, factors, strict=True)]
        strides = [step * factor for step, factor in zip(self.stride, factors, strict=True)]
        return Cells((strides[0], strides[1]), (offsets[0], offsets[1]))

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


def cell_positions(trunk: nn.Module, layers: Sequence[str], run: Callable[[], object]) -> dict[str, Cells]:
    """Returns the position of the cells of each layer, from the paddings and strides before it.

    Args:
        trunk: Left as it was.
        layers: Dotted names of its modules.
        run: Passes one image of the network's size through the trunk.

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

    strided = [m for m in trunk.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))]
    handles = [module.register_forward_hook(step) for module in strided]
    for name in layers:
        layer = trunk.get_submodule(name)
        handles.append(layer.register_forward_hook(lambda *_, name=name: reached(name)))
    try:
        with torch.no_grad():
            run()
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


def aligned(source: Cells, target: Cells, before: Sequence[int], after: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns two matrices that bring a map of one layer onto the cells of another: `down @ map @ across`.

    Args:
        source: Position of the map's cells.
        target: Position of the cells wanted.
        before: Rows and columns of the map.
        after: Rows and columns wanted.

    Returns:
        (after[0], before[0]) and (before[1], after[1]) float32, bilinear, ends repeated.
    """
    made = []
    for axis in (0, 1):
        pixel = torch.arange(after[axis]) * target.stride[axis] + target.offset[axis]
        place = ((pixel - source.offset[axis]) / source.stride[axis]).clamp(0, before[axis] - 1)
        low = place.floor().clamp(max=max(before[axis] - 2, 0)).long()
        share = (place - low).clamp(0, 1)
        matrix = torch.zeros(after[axis], before[axis])
        rows = torch.arange(after[axis])
        matrix[rows, low] += 1 - share
        matrix[rows, (low + 1).clamp(max=before[axis] - 1)] += share
        made.append(matrix)
    return made[0], made[1].T.contiguous()


class JoinedCells(nn.Module):
    """Adds maps of several networks of one picture, on the cells of the finest map.

    Args:
        positions: Of the cells of each map, in pixels of its network's input.
        counts: Rows and columns of each map.
        sizes: Height and width of each network's input.

    Attributes:
        finest: Which map has the most cells.
    """

    def __init__(
        self, positions: Sequence[Cells], counts: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.finest = max(range(len(counts)), key=lambda index: counts[index][0] * counts[index][1])
        for index, (cells, count, size) in enumerate(zip(positions, counts, sizes, strict=True)):
            if index == self.finest:
                continue
            source = cells.scaled(size, sizes[self.finest])
            down, across = aligned(source, positions[self.finest], count, counts[self.finest])
            self.register_buffer(f"down{index}", down, persistent=False)
            self.register_buffer(f"across{index}", across, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the sum (B, h, w) of maps (B, h_i, w_i), each brought onto the finest one's cells, bilinear."""
        total = maps[self.finest]
        for index, one in enumerate(maps):
            if index != self.finest:
                total = total + self.get_buffer(f"down{index}") @ one @ self.get_buffer(f"across{index}")
        return total


def marked_cells(masks: Tensor, position: Cells, cells: Sequence[int]) -> Tensor:
    """Returns which cells have a marked pixel nearer to their middle than half the way to the next cell's.

    What lies beyond the middle of the first or the last cell belongs to that one: no defect is nobody's.

    Args:
        masks: (B, H, W) float, 1 on the defect.
        position: Of the cells.
        cells: Their rows and columns.

    Returns:
        (B, *cells) float32, 0 or 1.
    """
    near = []
    for side, count, stride, offset in zip(masks.shape[1:], cells, position.stride, position.offset, strict=True):
        middle = torch.arange(count) * stride + offset
        pixel = torch.arange(float(side)).clamp(float(middle[0]), float(middle[-1]))
        near.append(((pixel - middle[:, None]).abs() <= stride / 2).to(masks))
    return ((near[0] @ masks @ near[1].T) > 0).float()

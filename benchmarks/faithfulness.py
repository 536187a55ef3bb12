"""For benchmarks/localisation.py: raw scores while the places that a map marks are blurred away or uncovered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

STEPS = 10


@dataclass(frozen=True)
class Faithfulness:
    """Mean raw scores of one picture while it is changed (areas under the deletion and insertion curves).

    Attributes:
        deletion: Mean raw score while the hottest places are blurred away first; lower is better.
        insertion: Mean raw score while the hottest places come back first into a blurred picture; higher is better.
        random_deletion: The same as `deletion` in random order: what an uninformative map reaches.
        random_insertion: The same as `insertion` in random order.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float


def faithfulness(
    score: Callable[[Tensor], Tensor], image: Tensor, heat: Tensor, *, cells: int = 28, seed: int = 0
) -> Faithfulness:
    """Measures one map on one picture.

    Args:
        score: Takes (B, C, H, W) uint8, returns raw scores (B,).
        image: (C, H, W) uint8.
        heat: (H, W) raw map at the picture's size.
        cells: Places along the longer side that are changed as one; single pixels would make noise, not a picture.
        seed: Of the random order.

    Reference:
        Petsiuk et al. 2018 (RISE), section 4.3; blurred pixels instead of grey ones, which no network has seen.
    """
    height, width = image.shape[1:]
    rows, columns = (max(1, round(cells * side / max(height, width))) for side in (height, width))
    coarse = functional.adaptive_avg_pool2d(heat[None, None].float(), (rows, columns)).flatten()
    hottest = coarse.argsort(descending=True)
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(rows * columns))
    blurred = _blurred(image)
    areas = []
    for order in (hottest, drawn):
        for start, end in ((image, blurred), (blurred, image)):
            areas.append(float(score(_changed(start, end, order, (rows, columns))).mean()))
    return Faithfulness(areas[0], areas[1], areas[2], areas[3])


def _changed(start: Tensor, end: Tensor, order: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns (STEPS + 1, C, H, W): from `start` to `end`, a tenth of the places at a time."""
    pictures = []
    for step in range(STEPS + 1):
        cover = torch.zeros(grid[0] * grid[1])
        cover[order[: round(step * len(order) / STEPS)]] = 1
        mask = functional.interpolate(cover.view(1, 1, *grid), start.shape[1:], mode="nearest")[0] > 0.5
        pictures.append(torch.where(mask, end, start))
    return torch.stack(pictures)


def _blurred(image: Tensor) -> Tensor:
    """Returns the picture without anything smaller than about an eighth of its side."""
    small = functional.adaptive_avg_pool2d(image[None].float(), 8)
    return functional.interpolate(small, image.shape[1:], mode="bilinear", align_corners=False)[0].round().to(image)

"""Runs a network over many fitted photographs, a batch at a time, in float32 and without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowngood.progress import track

BATCH = 32


def device_of(network: nn.Module) -> torch.device:
    """Returns where a network's tensors are."""
    tensor: Tensor = next(iter(network.state_dict().values()))
    return tensor.device


def over_batches(
    network: nn.Module,
    function: Callable[[Tensor], Tensor],
    pixels: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    title: str,
) -> npt.NDArray[np.float32]:
    """Returns function(images) for the given rows, joined.

    Float32, so that a score does not depend on which other photographs share its batch.

    Args:
        network: Put into evaluation mode and channels-last order.
        function: Takes (B, C, H, W) uint8 and returns (B, ...) float.
        pixels: (N, C, H, W) uint8.
        rows: Which rows of `pixels`, in the order of the result.
        title: Shown beside the progress bar.

    Returns:
        (len(rows), ...) float32.
    """
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = device_of(network)
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(rows), BATCH), title):
            batch = np.ascontiguousarray(pixels[rows[start : start + BATCH]])
            parts.append(function(torch.from_numpy(batch).to(device)).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty(0, np.float32)

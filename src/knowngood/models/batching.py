"""How photographs pass a network: in batches of bounded memory, with equal results in any company."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowngood.progress import track

BATCH = 32  # photographs at a time where nobody says otherwise
_BATCH_PIXELS = BATCH * 512 * 512  # of a batch at most: memory does not grow with the photographs' size


def batch_for(height: int, width: int, most: int = BATCH) -> int:
    """Returns how many photographs of a size pass a network at once: fewer of large ones, so that memory is bounded."""
    return max(1, min(most, _BATCH_PIXELS // (height * width)))


def device_of(network: nn.Module) -> torch.device:
    """Returns where a network's tensors are."""
    return next(chain(network.parameters(), network.buffers())).device


def batches_of(
    rows: npt.NDArray[np.int64], pixels: npt.NDArray[np.uint8], title: str | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yields rows of pixels (N, C, H, W) in pieces that pass a network at once; with a title it shows its progress."""
    step = batch_for(pixels.shape[2], pixels.shape[3])
    starts = range(0, len(rows), step)
    for start in starts if title is None else track(starts, title):
        yield rows[start : start + step]


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
        for some in batches_of(rows, pixels, title):
            batch = np.ascontiguousarray(pixels[some])
            parts.append(function(torch.from_numpy(batch).to(device)).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty(0, np.float32)

"""Batches of fitted photographs: which rows, in which order, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from knowngood.training.targets import NO_KIND, NO_MASK, Rows, Targets


class Batch(NamedTuple):
    """What a step of training sees.

    Attributes:
        images: (B, C, H, W) uint8.
        bad: (B,) float32, target P(bad).
        weight: (B,) float32.
        kind: (B,) int64, number of the kind of defect, or `NO_KIND`.
        masks: (B, H, W) uint8, 1 on the defect, `NO_MASK` everywhere in photographs without a mask; (B, 0, 0) where
            no photograph of the set has one.
    """

    images: Tensor
    bad: Tensor
    weight: Tensor
    kind: Tensor
    masks: Tensor


class FittedImages(Dataset[Batch]):
    """Some rows of a pixel store with their targets, fetched a batch at a time."""

    def __init__(self, pixels: npt.NDArray[np.uint8], targets: Targets, rows: Rows) -> None:
        self.pixels = pixels
        self.targets = targets
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the same file instead of being sent the pixels."""
        state = dict(self.__dict__)
        if isinstance(self.pixels, np.memmap):
            state["pixels"] = (self.pixels.filename, self.pixels.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        stored: Any = self.pixels
        if isinstance(stored, tuple):
            self.pixels = np.memmap(stored[0], np.uint8, "r", shape=stored[1])

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = self.rows[indices]
        targets = self.targets
        kind = np.full(len(rows), NO_KIND) if targets.kind is None else targets.kind[rows]
        size = self.pixels.shape[2:] if targets.masks else (0, 0)
        masks = np.full((len(rows), *size), NO_MASK, np.uint8)
        for place, row in enumerate(rows.tolist()):
            if row in targets.masks:
                masks[place] = targets.masks[row]
        return Batch(
            torch.from_numpy(np.ascontiguousarray(self.pixels[rows])),
            torch.from_numpy(targets.bad[rows]),
            torch.from_numpy(targets.weight[rows]),
            torch.from_numpy(kind),
            torch.from_numpy(masks),
        )


def as_is(batch: Any) -> Any:
    """Collation that has nothing left to do."""
    return batch


class EpochBatches(Sampler[list[int]]):
    """Index lists of one epoch.

    With `balanced`, half of every epoch is bad and half good, the rarer class repeated (drawn without replacement
    until exhausted, so no image is left out while another comes twice).

    Args:
        bad: (N,) bool.
        batch_size: Rows a batch and process; the last incomplete batch is dropped when there are others.
        balanced: Whether to even out the classes.
        seed: With the epoch, decides the order.
        world: How many processes share the epoch; each takes its own part.
    """

    def __init__(
        self,
        bad: npt.NDArray[np.bool_],
        batch_size: int,
        *,
        balanced: bool,
        seed: int,
        world: int = 1,
    ) -> None:
        self.bad = bad
        self.batch_size = batch_size
        self.balanced = balanced
        self.seed = seed
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, len(self.bad) // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(np.random.default_rng([self.seed, self.epoch]))
        size = min(self.batch_size * self.world, len(order))
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        for step in range(len(self)):
            yield self.share(order[step * size : (step + 1) * size], rank).tolist()

    def share(self, rows: Rows, rank: int) -> Rows:
        """Returns the part of a batch that falls to one process: a run of rows, so that it holds both classes."""
        return np.array_split(rows, self.world)[rank]

    def _order(self, random: np.random.Generator) -> Rows:
        if not self.balanced or self.bad.all() or not self.bad.any():
            return random.permutation(len(self.bad))
        half = (len(self.bad) + 1) // 2
        columns = [_cycled(np.flatnonzero(self.bad == which), half, random) for which in (False, True)]
        return np.stack(columns, axis=1).reshape(-1)[: len(self.bad)]


def _cycled(rows: Rows, count: int, random: np.random.Generator) -> Rows:
    rounds = -(-count // len(rows))
    return np.concatenate([random.permutation(rows) for _ in range(rounds)])[:count]

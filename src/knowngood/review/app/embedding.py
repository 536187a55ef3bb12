"""Deep features of photographs as the recipe's first network sees them, taken off the pass that scores them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier
from knowngood.models.heads import KernelHead
from knowngood.recipe.bundle import Recipe

WIDE = 512  # numbers of a row at most: 2 KB a photograph

Rows = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Embedder:
    """What the head of a recipe's first network sees of each photograph: what it decides by.

    Args:
        recipe: Loaded.

    Reference:
        Rows longer than 512 are projected at random, which keeps distances within a few percent (Johnson and
        Lindenstrauss 1984).
    """

    def __init__(self, recipe: Recipe) -> None:
        member = recipe.inspector.members[0]
        assert isinstance(member, Classifier)
        self._member = member
        self._head: nn.Module = member.head if member.head is not None else member.head_layer()
        self._narrowing: Tensor | None = None
        manifest = recipe.manifest
        networks = manifest.networks[0].model_dump(mode="json")
        self.made_by: list[object] = ["head input", WIDE, manifest.weights_sha256, networks]
        self.made_by += manifest.preprocessing.made_by

    @contextmanager
    def taking(self) -> Iterator[list[Rows]]:
        """Yields a list that the rows of every batch which the network sees inside the block are added to."""
        taken: list[Rows] = []

        def take(_: nn.Module, given: tuple[Any, ...]) -> None:
            taken.append(self._rows(given[0]))

        handle = self._head.register_forward_pre_hook(take)
        try:
            yield taken
        finally:
            handle.remove()

    def rows(self, pixels: Pixels) -> Rows:
        """Returns the rows (N, D) of fitted photographs (N, C, H, W) uint8 without scoring them."""
        with self.taking() as taken:
            over_batches(self._member, self._member, pixels, np.arange(len(pixels)), "features")
        return np.concatenate(taken)

    def _rows(self, seen: Tensor) -> Rows:
        rows = seen.float().mean((2, 3)) if seen.ndim == 4 else seen.float()
        if isinstance(self._head, KernelHead):
            rows = (rows - self._head.mean) / self._head.scale
        if rows.shape[1] > WIDE:
            if self._narrowing is None:
                drawn = np.random.default_rng(0).standard_normal((rows.shape[1], WIDE), np.float32)
                self._narrowing = torch.from_numpy(drawn / np.float32(np.sqrt(WIDE))).to(rows.device)
            rows = rows @ self._narrowing
        return np.asarray(rows.cpu().numpy(), np.float32)

"""PyTorch, always there: the recipe's own networks in float32, on a GPU where there is one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from knowngood.errors import ConfigError
from knowngood.models.batching import BATCH, device_of
from knowngood.models.classifier import Inspector
from knowngood.recipe.export.graphs import Scorer, map_kind
from knowngood.recipe.runtimes import Kind, Outputs, Pixels


class TorchRuntime:
    """Runs an inspector as it was trained.

    Args:
        inspector: Of the recipe.
        threads: How many this process may use from now on; unchanged by default.
    """

    name = "torch"

    def __init__(self, inspector: Inspector, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.inspector = inspector.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        kind = device_of(inspector).type
        self.device = "" if kind == "cpu" else kind
        self.maps = map_kind(inspector) is not None
        self.busy = 0.0
        self._with_maps: Scorer | None = None

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns margins, and maps if asked for.

        Raises:
            ConfigError: Maps are asked for that these networks do not give in a forward pass.
        """
        if maps and not self.maps:
            raise ConfigError("This recipe has no map in a forward pass.", fix="Use `knowngood explain`.")
        network = self._mapping() if maps else self.inspector
        device, began = device_of(self.inspector), time.perf_counter()
        parts: list[tuple[torch.Tensor, ...]] = []
        with torch.inference_mode():
            for start in range(0, max(1, len(pixels)), BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(device)
                made = network(batch)
                parts.append(made if isinstance(made, tuple) else (made,))
        joined = [torch.cat(outputs).float().cpu().numpy() for outputs in zip(*parts, strict=True)]
        self.busy += time.perf_counter() - began
        return Outputs(*joined)

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, one after the other."""
        for pixels in batches:
            yield self.run(pixels, maps=maps)

    def _mapping(self) -> Scorer:
        if self._with_maps is None:
            self._with_maps = Scorer(self.inspector, fold=False).to(device_of(self.inspector))
            self._with_maps.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self._with_maps


TORCH = Kind("PyTorch, the recipe's own networks in float32, on a GPU if any", "torch", "", False, TorchRuntime)

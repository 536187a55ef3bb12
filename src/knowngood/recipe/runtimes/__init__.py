"""What computes margins: one file each behind one contract; add one line to register another.

Whatever the runtime, equal photographs get equal margins within the tolerance of the export, in the order in which they
were given, in batches of any size, none included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from knowngood.registry import Registry

if TYPE_CHECKING:  # too heavy where only a name is looked up
    from knowngood.models.classifier import Inspector

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What one batch gave.

    Attributes:
        margins: (B,) float32, not calibrated.
        maps: (B, h, w) float32 as the graph puts them out (see `placing`); None where none were asked for.
    """

    margins: Values
    maps: Values | None = None


@dataclass(frozen=True)
class Graph:
    """An exported graph on disk.

    Attributes:
        folder: Where its files are.
        precision: "fp32", "bf16" or "int8".
        maps: Whether it has an output "map".
    """

    folder: Path
    precision: str
    maps: bool


class Runtime(Protocol):
    """Computes margins, and maps where its graph has them.

    Attributes:
        name: In the registry.
        maps: Whether it can give maps.
    """

    name: str
    maps: bool

    @property
    def busy(self) -> float:
        """Seconds in which it was computing so far."""
        ...

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns what comes of photographs (B, C, H, W) uint8, B of any size, 0 included."""
        ...

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, in order; a few batches may be taken ahead, never more."""
        ...


@dataclass(frozen=True)
class Kind:
    """How a runtime is had; calling it opens one.

    Attributes:
        summary: One line for tables and help.
        package: Module that it needs.
        extra: Extra of knowngood that installs it; empty where it is always there.
        takes_graph: Whether it runs exported graphs; otherwise it takes the recipe's own networks.
        opened: Opens it with what it takes, and with how many threads it may use, where that is limited.
    """

    summary: str
    package: str
    extra: str
    takes_graph: bool
    opened: Callable[..., Runtime]

    def __call__(self, inspector: Inspector | None, graph: Graph | None, threads: int | None = None) -> Runtime:
        """Returns a runtime of the graph, or of the inspector, that uses so many threads; all cores by default."""
        taken: Any = graph if self.takes_graph else inspector
        return self.opened(taken) if threads is None else self.opened(taken, threads)


RUNTIMES: Registry[Kind] = Registry(
    "runtime",
    "knowngood.runtimes",
    {
        "openvino": "knowngood.recipe.runtimes.openvino_runtime:OPENVINO",
        "onnxruntime": "knowngood.recipe.runtimes.onnx_runtime:ONNXRUNTIME",
        "torch": "knowngood.recipe.runtimes.torch_runtime:TORCH",
    },
)

"""Formats that a recipe is exported to: one file each; add one line to register another.

An exporter makes one graph, from raw uint8 pixels to margin (and map, where the recipe has one in a forward pass), and
knows how to make it int8. Whether the graph may be used is not its business: `knowngood.recipe.export.parity` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.recipe.export.graphs import Scorer
from knowngood.registry import Registry

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Pixels: TypeAlias = npt.NDArray[np.uint8]


class Exporter(Protocol):
    """Writes one format. Graphs are whatever the format's own library calls a model.

    Attributes:
        summary: One line for tables and help.
        runtime: Name in `knowngood.recipe.runtimes.RUNTIMES` of what runs it.
        extra: Extra of knowngood that installs what exporting needs.
        packages: Modules that exporting imports; int8 needs those in `int8_packages` as well.
        precisions: Which it can write.
    """

    summary: str
    runtime: str
    extra: str
    packages: tuple[str, ...]
    int8_packages: tuple[str, ...]
    precisions: tuple[Precision, ...]

    def graph(self, scorer: Scorer) -> Any:
        """Returns the float graph: images (B, C, H, W) uint8 with B open; outputs "margin" and perhaps "map"."""
        ...

    def convolutions(self, graph: Any) -> list[str]:
        """Returns the names of the layers that int8 speeds up, from input to output."""
        ...

    def quantised(self, graph: Any, sample: Sequence[Pixels], wide: Collection[str]) -> Any:
        """Returns the graph in int8; head and `wide` layers stay in float.

        Args:
            graph: From `graph`; not changed.
            sample: Batches (B, C, H, W) uint8 from which the ranges of activations are taken.
            wide: Names from `convolutions`.
        """
        ...

    def save(self, graph: Any, folder: Path) -> None:
        """Writes the graph into an empty folder, under names that its runtime knows."""
        ...


EXPORTERS: Registry[type[Exporter]] = Registry(
    "export format",
    "knowngood.exporters",
    {
        "openvino": "knowngood.recipe.export.openvino_ir:OpenvinoExporter",
        "onnx": "knowngood.recipe.export.onnx_file:OnnxExporter",
    },
)

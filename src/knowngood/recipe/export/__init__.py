"""Formats that a recipe is exported to: one file each; add one line to register another.

An exporter makes one graph, from raw uint8 pixels to margin (and map, where the recipe has one in a forward pass), and
knows how to make it int8. Whether the graph may be used is not its business: `knowngood.recipe.export.parity` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.errors import ConfigError
from knowngood.files import check_writable
from knowngood.packages import needed
from knowngood.recipe.folder import recipe_at
from knowngood.registry import Registry

if TYPE_CHECKING:  # too heavy where only a name is looked up
    from knowngood.recipe.export.graphs import Scorer

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


def exporter_for(to: str, precision: str) -> tuple[Exporter, Precision]:
    """Returns the exporter of a format and the precision that it is asked for.

    Args:
        to: Name of a format.
        precision: "fp32", "bf16" or "int8".

    Raises:
        UnknownNameError: There is no such format.
        ConfigError: The format has no such precision.
        MissingExtraError: A package is missing.
    """
    exporter = EXPORTERS.get(to)()
    for known in exporter.precisions:
        if known == precision:
            needed(exporter.extra, *exporter.packages, *(exporter.int8_packages if known == "int8" else ()))
            return exporter, known
    raise ConfigError(
        f"{to} has no precision {precision!r}.",
        expected=" or ".join(exporter.precisions),
        fix="Choose another --precision, or --to openvino for bf16.",
    )


def check_export(recipe: str | Path, to: str, precision: str) -> None:
    """Looks whether an export can be made and written, before what is heavy is imported.

    Args:
        recipe: Folder of a recipe inside that of its run, or the run's.
        to: Name of a format.
        precision: "fp32", "bf16" or "int8".

    Raises:
        KnownGoodError: As `exporter_for`; or the recipe is not there, or its folder cannot be written.
    """
    exporter_for(to, precision)
    check_writable(recipe_at(recipe) / "exports" / f"{to}-{precision}", folder=True, flag="RECIPE")

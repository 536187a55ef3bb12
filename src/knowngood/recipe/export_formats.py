"""Formats that a recipe is exported to: one file each; add one line to register another.

An exporter makes one graph, from uint8 pixels to the raw score (and a map, where the recipe has one in a forward pass),
and knows how to make it int8. Whether the graph may be used is not its business: `knowngood.recipe.parity` decides.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.environment import needed
from knowngood.errors import ConfigError
from knowngood.files import check_writable
from knowngood.recipe.folder import recipe_at
from knowngood.recipe.quantising import float_nodes, quantised
from knowngood.registry import Registry
from knowngood.telemetry import switch_off

if TYPE_CHECKING:
    from knowngood.recipe.graphs import Scorer

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Pixels: TypeAlias = npt.NDArray[np.uint8]


class Exporter(Protocol):
    """Writes one format. Graphs are whatever the format's own library calls a model.

    Attributes:
        summary: One line for tables and help.
        runtime: Name in `knowngood.recipe.options.RUNTIMES` of what runs it.
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
        """Returns the float graph: images (B, C, H, W) uint8 with B open; outputs "margin" (the raw score), "map"."""
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
        "openvino": "knowngood.recipe.export_formats:OpenvinoExporter",
        "onnx": "knowngood.recipe.export_formats:OnnxExporter",
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


ONNX_FILE = "model.onnx"
_OPSET = 17


class OnnxExporter:
    """Writes model.onnx."""

    summary = "ONNX, for onnxruntime and many others"
    runtime = "onnxruntime"
    extra = "onnx"
    packages = ("onnx", "onnxruntime")
    int8_packages = ("nncf",)
    precisions: tuple[Precision, ...] = ("fp32", "int8")  # onnxruntime has no bf16 convolution for processors

    def graph(self, scorer: Scorer) -> Any:
        """Returns an `onnx.ModelProto`."""
        import onnx
        import torch

        written = BytesIO()
        names = ("images", *scorer.outputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter that needs no further package calls itself old
            torch.onnx.export(
                scorer,
                (scorer.example(),),
                written,  # type: ignore[arg-type]  # its other exporter would want a path
                dynamo=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=list(scorer.outputs),
                dynamic_axes={name: {0: "batch"} for name in names},
            )
        made = onnx.load_model_from_string(written.getvalue())
        for number, node in enumerate(made.graph.node):
            node.name = node.name or f"node{number}"
        return made

    def convolutions(self, graph: Any) -> list[str]:
        """Returns the names of the convolutions, from input to output."""
        return [node.name for node in graph.graph.node if node.op_type == "Conv"]

    def quantised(self, graph: Any, sample: Sequence[npt.NDArray[np.uint8]], wide: Collection[str]) -> Any:
        """Returns the model with QuantizeLinear and DequantizeLinear around all convolutions but the wide ones."""
        maker = {output: node.name for node in graph.graph.node for output in node.output}
        inputs = {
            node.name: [maker[name] for name in node.input if name in maker]
            for node in graph.graph.node
            if node.op_type != "Constant"
        }
        ignored = float_nodes(inputs, self.convolutions(graph), wide)
        return quantised(graph, sample, ignored, lambda batch: {"images": batch})

    def save(self, graph: Any, folder: Path) -> None:
        """Writes the model in one file."""
        (folder / ONNX_FILE).write_bytes(graph.SerializeToString())


OPENVINO_FILE = "model.xml"
_HEAVY = ("Convolution", "GroupConvolution")


class OpenvinoExporter:
    """Writes model.xml and model.bin."""

    summary = "OpenVINO IR, the quickest on Intel and AMD processors"
    runtime = "openvino"
    extra = "openvino"
    packages = ("openvino",)
    int8_packages = ("nncf",)
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")

    def graph(self, scorer: Scorer) -> Any:
        """Returns an `openvino.Model`; bf16 is a matter of how it is compiled, so weights are always float32."""
        switch_off()
        import openvino

        made = openvino.convert_model(scorer, example_input=scorer.example())
        made.reshape([-1, *scorer.shape])
        made.inputs[0].tensor.set_names({"images"})
        for output, name in zip(made.outputs, scorer.outputs, strict=True):
            output.tensor.set_names({name})
        return made

    def convolutions(self, graph: Any) -> list[str]:
        """Returns the names of the convolutions, from input to output."""
        return [op.get_friendly_name() for op in graph.get_ordered_ops() if op.get_type_name() in _HEAVY]

    def quantised(self, graph: Any, sample: Sequence[npt.NDArray[np.uint8]], wide: Collection[str]) -> Any:
        """Returns the model with `FakeQuantize` in front of all convolutions but the wide ones."""
        inputs = {
            op.get_friendly_name(): [value.get_node().get_friendly_name() for value in op.input_values()]
            for op in graph.get_ordered_ops()
            if op.get_type_name() not in ("Constant", "Parameter", "Result")
        }
        return quantised(graph, sample, float_nodes(inputs, self.convolutions(graph), wide))

    def save(self, graph: Any, folder: Path) -> None:
        """Writes the model with its weights as they are."""
        import openvino

        openvino.save_model(graph, folder / OPENVINO_FILE, compress_to_fp16=False)

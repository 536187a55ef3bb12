"""ONNX: runs nearly everywhere, with onnxruntime among others; fp32 and int8."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from knowngood.recipe.export import Precision
from knowngood.recipe.export.quantising import quantised
from knowngood.recipe.export.tails import float_nodes

if TYPE_CHECKING:  # too heavy where only a precision is looked up
    from knowngood.recipe.export.graphs import Scorer

FILE = "model.onnx"
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
        (folder / FILE).write_bytes(graph.SerializeToString())

"""OpenVINO IR: the quickest on processors of Intel and AMD; fp32, bf16, int8."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from knowngood.recipe.export import Precision
from knowngood.recipe.export.quantising import quantised
from knowngood.recipe.export.tails import float_nodes
from knowngood.telemetry import switch_off

if TYPE_CHECKING:  # too heavy where only a precision is looked up
    from knowngood.recipe.export.graphs import Scorer

FILE = "model.xml"
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

        openvino.save_model(graph, folder / FILE, compress_to_fp16=False)

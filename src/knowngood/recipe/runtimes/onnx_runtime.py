"""onnxruntime: exported graphs where OpenVINO is not to be had."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from knowngood.errors import RecipeError
from knowngood.recipe.export.onnx_file import FILE
from knowngood.recipe.runtimes import Graph, Kind, Outputs, Pixels


class OnnxRuntime:
    """Runs an ONNX graph on the processor.

    Args:
        graph: With model.onnx.
        threads: How many it may use; all by default.

    Raises:
        RecipeError: The file cannot be read.
    """

    name = "onnxruntime"

    def __init__(self, graph: Graph, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # no busy waiting
        try:
            self.session: Any = onnxruntime.InferenceSession(
                str(graph.folder / FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common root
            raise RecipeError(
                f"onnxruntime cannot read {graph.folder / FILE}: {str(error).splitlines()[0]}",
                fix="Export the recipe again with `knowngood export`.",
            ) from error
        self.maps = graph.maps
        self.busy = 0.0

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns margins, and maps if asked for."""
        began = time.perf_counter()
        names = ["margin", "map"] if maps else ["margin"]
        if not len(pixels):
            sizes = [side if isinstance(side, int) else 0 for side in self.session.get_outputs()[-1].shape[1:]]
            return Outputs(np.empty(0, np.float32), np.empty((0, *sizes), np.float32) if maps else None)
        made = self.session.run(names, {"images": np.ascontiguousarray(pixels)})
        self.busy += time.perf_counter() - began
        return Outputs(*made)

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, one after the other."""
        for pixels in batches:
            yield self.run(pixels, maps=maps)


ONNXRUNTIME = Kind("onnxruntime, exported graphs on processors", "onnxruntime", "onnx", True, OnnxRuntime)

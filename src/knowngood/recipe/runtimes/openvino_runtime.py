"""OpenVINO: exported graphs, several requests in flight, so that reading and computing go on at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from knowngood.errors import RecipeError
from knowngood.recipe.export.openvino_ir import FILE
from knowngood.recipe.runtimes import Graph, Kind, Outputs, Pixels
from knowngood.telemetry import switch_off

IN_FLIGHT = 2  # one that is computed, one that waits: more would only hold memory
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # of int8 it is what heads and other remains are computed in


class OpenvinoRuntime:
    """Runs a compiled graph.

    OpenVINO computes in bf16 on processors that can, unless it is told otherwise; here a graph is computed in the
    precision that it was judged in.

    Args:
        graph: With model.xml.
        threads: How many it may use; all by default.

    Raises:
        RecipeError: The files cannot be read.
    """

    name = "openvino"

    def __init__(self, graph: Graph, threads: int | None = None) -> None:
        switch_off()
        import openvino

        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": "1",  # a batch takes all cores
            "INFERENCE_PRECISION_HINT": HINTS[graph.precision],
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
            settings["ENABLE_CPU_PINNING"] = "NO"  # others compute beside it: all would be pinned to the same cores
        try:
            self.compiled = openvino.Core().compile_model(graph.folder / FILE, "CPU", settings)
        except RuntimeError as error:
            raise RecipeError(
                f"OpenVINO cannot read {graph.folder / FILE}: {str(error).splitlines()[0]}",
                fix="Export the recipe again with `knowngood export`.",
            ) from error
        self.maps = graph.maps
        self.busy = 0.0
        self._idle: deque[Any] = deque()  # requests are kept: each holds memory of its own
        self._until = 0.0

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns margins, and maps if asked for."""
        (made,) = self.stream([pixels], maps=maps)
        return made

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, in order, with `IN_FLIGHT` batches taken ahead at most."""
        flying: deque[_Flight | None] = deque()  # None is an empty batch
        try:
            for pixels in batches:
                flying.append(self._sent(pixels) if len(pixels) else None)
                if len(flying) >= IN_FLIGHT:
                    yield self._landed(flying, maps)
            while flying:
                yield self._landed(flying, maps)
        finally:  # the consumer may have gone away: nothing goes on behind its back
            for flight in flying:
                if flight is not None:
                    flight.request.wait()
                    self._idle.append(flight.request)

    def _sent(self, pixels: Pixels) -> _Flight:
        request = self._idle.pop() if self._idle else self.compiled.create_infer_request()
        began = time.perf_counter()
        request.start_async({"images": np.ascontiguousarray(pixels)}, share_inputs=False)
        return _Flight(request, began)

    def _landed(self, flying: deque[_Flight | None], maps: bool) -> Outputs:
        """Waits for the oldest and returns what it gave."""
        flight = flying[0]
        if flight is None:
            flying.popleft()
            return self._nothing(maps)
        request = flight.request
        request.wait()
        flying.popleft()
        made = Outputs(
            request.get_tensor("margin").data.copy(), request.get_tensor("map").data.copy() if maps else None
        )
        ended = flight.began + request.latency / 1000  # requests overlap, time does not count twice
        self.busy += max(0.0, ended - max(flight.began, self._until))
        self._until = max(self._until, ended)
        self._idle.append(request)
        return made

    def _nothing(self, maps: bool) -> Outputs:
        if not maps:
            return Outputs(np.empty(0, np.float32))
        sides = [side.get_length() for side in list(self.compiled.output("map").partial_shape)[1:]]
        return Outputs(np.empty(0, np.float32), np.empty((0, *sides), np.float32))


@dataclass(frozen=True)
class _Flight:
    request: Any
    began: float


OPENVINO = Kind("OpenVINO, exported graphs on processors", "openvino", "openvino", True, OpenvinoRuntime)

"""What computes margins: one file each behind one contract; add one line to register another.

Whatever the runtime, equal photographs get equal margins within the tolerance of the export, in the order in which they
were given, in batches of any size, none included.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from knowngood.errors import ConfigError, RecipeError
from knowngood.models.classifier import BATCH, Inspector, device_of
from knowngood.recipe.export_formats import ONNX_FILE, OPENVINO_FILE
from knowngood.recipe.graphs import Scorer, map_kind
from knowngood.registry import Registry
from knowngood.telemetry import switch_off

if TYPE_CHECKING:
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
        "openvino": "knowngood.recipe.runtimes:OPENVINO",
        "onnxruntime": "knowngood.recipe.runtimes:ONNXRUNTIME",
        "torch": "knowngood.recipe.runtimes:TORCH",
    },
)


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
                str(graph.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common root
            raise RecipeError(
                f"onnxruntime cannot read {graph.folder / ONNX_FILE}: {str(error).splitlines()[0]}",
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
            self.compiled = openvino.Core().compile_model(graph.folder / OPENVINO_FILE, "CPU", settings)
        except RuntimeError as error:
            raise RecipeError(
                f"OpenVINO cannot read {graph.folder / OPENVINO_FILE}: {str(error).splitlines()[0]}",
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

"""Runtimes compute raw scores, and maps, of fitted photographs; one line registers another.

The contract: results come in the order of the photographs, for batches of any size, none included, and the result of a
photograph is the same to the last bit whatever it is computed together with and on however many cores. Libraries choose
other kernels for other batch sizes and numbers of threads, so on a processor every photograph is computed alone and in
one thread, as many at once as there are cores (which also takes the least time there), and on a GPU every batch has the
same size.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from knowngood.environment import cores
from knowngood.errors import ConfigError, RecipeError
from knowngood.models.batching import batch_for, device_of
from knowngood.models.classifier import Inspector
from knowngood.recipe.export_formats import ONNX_FILE, OPENVINO_FILE
from knowngood.recipe.graphs import Scorer, map_kind
from knowngood.telemetry import switch_off

R = TypeVar("R")
Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What one batch gave.

    Attributes:
        raw_scores: (B,) float32, before calibration; logits, or distances of a good-only recipe.
        maps: (B, h, w) float32 as the graph puts them out (see `maps.Placing`); None where none were asked for.
    """

    raw_scores: Values
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
    """Computes raw scores, and maps where its graph has them.

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


PLACE = threading.local()  # `photograph` is the number of the photograph in its batch that a thread computes


class OnePerThread:
    """Computes photographs in threads, each photograph in one.

    Args:
        threads: How many there are; one a core by default.
    """

    def __init__(self, threads: int | None) -> None:
        self._pool = ThreadPoolExecutor(threads or cores(), "knowngood-infer", initializer=_limit_to_this_thread)

    def map(self, work: Callable[[Pixels], R], pixels: Pixels) -> list[R]:
        """Returns work(photograph) for each of the photographs (B, C, H, W), given as (1, C, H, W), in order."""

        def numbered(number: int, photograph: Pixels) -> R:
            PLACE.photograph = number
            return work(photograph)

        return list(self._pool.map(numbered, count(), np.ascontiguousarray(pixels)[:, None]))


def _limit_to_this_thread() -> None:
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # PyTorch sets the number itself when a thread uses it for the first time
    threadpool_limits(1, user_api="openmp")


class TorchRuntime:
    """Runs an inspector as it was trained.

    Args:
        inspector: Of the recipe.
        threads: How many it may use on a processor; all cores by default.
    """

    name = "torch"

    def __init__(self, inspector: Inspector, threads: int | None = None) -> None:
        self._threads = OnePerThread(threads)
        self.inspector = inspector.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        kind = device_of(inspector).type
        self.device = "" if kind == "cpu" else kind
        self.maps = map_kind(inspector) is not None
        self.busy = 0.0
        self._with_maps: Scorer | None = None

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns raw scores, and maps if asked for.

        Raises:
            ConfigError: Maps are asked for that these networks do not give in a forward pass.
        """
        if maps and not self.maps:
            raise ConfigError("This recipe has no map in a forward pass.", fix="Use `knowngood explain`.")
        began = time.perf_counter()
        mapping = self._mapping() if maps else None
        shown = pixels if len(pixels) else np.zeros((1, *pixels.shape[1:]), np.uint8)  # none has maps of a size too

        def work(batch: Pixels) -> tuple[Values, Values | None]:
            with torch.inference_mode():
                images = torch.from_numpy(batch).to(device_of(self.inspector))
                raw_scores = self.inspector(images).float().cpu().numpy()
                # By a pass of its own: the raw scores that come with a map are equal but for rounding.
                return raw_scores, None if mapping is None else mapping(images)[1].float().cpu().numpy()

        made = [work(batch) for batch in self._filled(shown)] if self.device else self._threads.map(work, shown)
        self.busy += time.perf_counter() - began
        heat = [one for _, one in made if one is not None]
        raw_scores = np.concatenate([one for one, _ in made])[: len(pixels)]
        return Outputs(raw_scores, np.concatenate(heat)[: len(pixels)] if maps else None)

    @staticmethod
    def _filled(pixels: Pixels) -> Iterator[Pixels]:
        """Yields batches that all have the same size, the last one filled up with black."""
        size = batch_for(pixels.shape[2], pixels.shape[3])
        missing = -len(pixels) % size
        whole = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.uint8)])
        yield from (whole[start : start + size] for start in range(0, len(whole), size))

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

        self._threads = OnePerThread(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
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
        """Returns raw scores, and maps if asked for."""
        began = time.perf_counter()
        names = ["margin", "map"] if maps else ["margin"]
        if not len(pixels):
            sizes = [side if isinstance(side, int) else 0 for side in self.session.get_outputs()[-1].shape[1:]]
            return Outputs(np.empty(0, np.float32), np.empty((0, *sizes), np.float32) if maps else None)
        made = self._threads.map(lambda one: self.session.run(names, {"images": one}), pixels)
        self.busy += time.perf_counter() - began
        return Outputs(*(np.concatenate(one) for one in zip(*made, strict=True)))

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, one after the other."""
        for pixels in batches:
            yield self.run(pixels, maps=maps)


ONNXRUNTIME = Kind("onnxruntime, exported graphs on processors", "onnxruntime", "onnx", True, OnnxRuntime)


AHEAD = 2  # photographs beside those that are computed: no core waits, and little memory is held
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # of int8 it is what heads and other remains are computed in


class OpenvinoRuntime:
    """Runs a compiled graph.

    OpenVINO would compute in bf16 on processors that can; here a graph is computed in the precision of its certificate.
    Each core computes photographs of its own, so that a score depends neither on the batch nor on the number of cores.

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
            "NUM_STREAMS": str(threads or cores()),  # each of one thread
            "INFERENCE_NUM_THREADS": str(threads or cores()),
            "INFERENCE_PRECISION_HINT": HINTS[graph.precision],
        }
        if threads is not None:
            settings["ENABLE_CPU_PINNING"] = "NO"  # others compute beside it: all would be pinned to the same cores
        self._most = (threads or cores()) + AHEAD
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
        """Returns raw scores, and maps if asked for."""
        (made,) = self.stream([pixels], maps=maps)
        return made

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, in order; a few photographs are taken ahead."""
        sizes: deque[int] = deque()  # of the batches whose outputs are to come
        done: list[tuple[Values, Values | None]] = []

        def photographs() -> Iterator[Pixels]:
            for pixels in batches:
                sizes.append(len(pixels))
                yield from np.ascontiguousarray(pixels)[:, None]

        for one in self._each(photographs(), maps):
            done.append(one)
            while sizes and len(done) >= sizes[0]:
                yield self._joined([done.pop(0) for _ in range(sizes.popleft())], maps)
        while sizes:  # empty ones at the end
            yield self._joined([done.pop(0) for _ in range(sizes.popleft())], maps)

    def _each(self, photographs: Iterator[Pixels], maps: bool) -> Iterator[tuple[Values, Values | None]]:
        """Yields raw score (1,) and map (1, h, w) of photographs (1, C, H, W), in order."""
        flying: deque[_Flight] = deque()
        try:
            for pixels in photographs:
                flying.append(self._sent(pixels))
                if len(flying) >= self._most:
                    yield self._landed(flying, maps)
            while flying:
                yield self._landed(flying, maps)
        finally:  # the consumer may have gone away: nothing goes on behind its back
            for flight in flying:
                flight.request.wait()
                self._idle.append(flight.request)

    def _joined(self, parts: list[tuple[Values, Values | None]], maps: bool) -> Outputs:
        if not parts:
            return self._nothing(maps)
        heat = [one for _, one in parts if one is not None]
        return Outputs(np.concatenate([one for one, _ in parts]), np.concatenate(heat) if maps else None)

    def _sent(self, pixels: Pixels) -> _Flight:
        request = self._idle.pop() if self._idle else self.compiled.create_infer_request()
        began = time.perf_counter()
        request.start_async({"images": pixels}, share_inputs=False)
        return _Flight(request, began)

    def _landed(self, flying: deque[_Flight], maps: bool) -> tuple[Values, Values | None]:
        """Waits for the oldest and returns its raw score and its map."""
        flight = flying[0]
        request = flight.request
        request.wait()
        flying.popleft()
        made = request.get_tensor("margin").data.copy(), request.get_tensor("map").data.copy() if maps else None
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

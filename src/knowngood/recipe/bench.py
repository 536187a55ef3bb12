"""Measures a recipe on this machine, stage by stage, beside the machine's roofline in each precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from knowngood.data.images import decode
from knowngood.data.pixels import fit
from knowngood.environment import cores, installed
from knowngood.models.batching import BATCH, batch_for
from knowngood.models.cost import cost_of
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cascade import PASSED, CascadeRuntime
from knowngood.recipe.engine import Profile
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.folder import place_of
from knowngood.recipe.inputs import Item, stream
from knowngood.recipe.session import Session, exports, has_cascade, open_cascade, open_session
from knowngood.telemetry import switch_off

SIDE = 1024
_CHANNELS, _PLACES, _LAYERS = 256, 28, 6


@dataclass(frozen=True)
class Load:
    """Arithmetic that a machine does as quickly as it can.

    Attributes:
        gflop: 10^9 operations that one call does (a multiplication and an addition are two).
        run: Does them.
    """

    gflop: float
    run: Callable[[], object]


def loads() -> dict[str, Load]:
    """Returns precision to what shows the machine's limit in it.

    fp32 and bf16 are square products by PyTorch (oneDNN). int8 is a stack of 3x3 convolutions by OpenVINO, which is
    what int8 networks consist of; it is left out where OpenVINO is not installed.
    """
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(2, SIDE, SIDE).to(kind)
        found[name] = Load(2 * SIDE**3 / 1e9, lambda a=left, b=right: a @ b)  # type: ignore[misc]
    if installed("openvino"):
        found["int8"] = _int8()
    return found


def _int8() -> Load:
    switch_off()
    import openvino
    from openvino import opset13 as ops

    def quantised(node: object, low: float, high: float, levels: int) -> object:
        ends = [np.array(value, np.float32) for value in (low, high, low, high)]
        return ops.fake_quantize(node, *ends, levels)

    shape = [4, _CHANNELS, _PLACES, _PLACES]
    images = ops.parameter(shape, np.float32)
    rng, node = np.random.default_rng(0), images
    for _ in range(_LAYERS):
        weight = rng.normal(0, 0.02, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        node = ops.convolution(
            quantised(node, 0.0, 2.55, 256),
            quantised(ops.constant(weight), -0.1, 0.1, 255),
            [1, 1],
            [1, 1],
            [1, 1],
            [1, 1],
        )
        node = ops.relu(node)
    model = openvino.Model([node], [images], "peak")
    compiled = openvino.Core().compile_model(model, "CPU", {"NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"})
    work = 2 * _LAYERS * shape[0] * _CHANNELS * _CHANNELS * 9 * _PLACES**2
    given = rng.random(shape, np.float32)
    return Load(work / 1e9, lambda: compiled(given))


MOST = 64  # photographs that are used
Files = list[tuple[str, bytes]]


def bench(
    recipe: str | Path, images: str | Path | None = None, *, rounds: int = 3, count: int = 2 * BATCH
) -> dict[str, Any]:
    """Measures a recipe on this machine.

    All ways take turns in one process, a batch each, so that whatever else runs disturbs them alike; medians.

    Args:
        recipe: Its folder.
        images: Photographs to use; drawn ones of 300 x 300 pixels, as PNG, by default.
        rounds: How often each way has its turn.
        count: Photographs that the whole pipeline is measured on; the same files again and again.

    Returns:
        `cores`, `input`, `gflop_per_image`, `roofline` (GFLOP/s), `stages` (images/s of one core), `inference`
        (images/s, share of that precision's roofline), `pipeline` (images/s, busy shares of its stages), `bound_by` in
        words. Where the recipe has a cascade and `images` are given (of drawn ones nobody knows how many the student
        would pass on), `cascade`: images/s, busy shares, share that was passed on.
    """
    loaded, place = Recipe.load(recipe), place_of(recipe)
    ways: dict[str, Session] = {"torch, fp32": open_session(loaded, "torch")}
    for exporter, precision in exports(place):
        one = open_session(loaded, EXPORTERS.get(exporter).runtime, precision=precision)
        ways[f"{one.runtime.name}, {one.precision}"] = one
    files = _files(images, loaded)
    reporter().say(f"{len(files)} photographs, {len(ways)} ways of computing, {rounds} rounds")
    linear = [one.model_copy(update={"head": "linear", "supports": 0}) for one in loaded.manifest.networks]
    flop = sum(cost_of(one).flops for one in linear) / 1e9  # heads cost next to nothing
    stages = _stages(loaded, files, rounds)
    channels, height, width = loaded.input_shape
    batch = batch_for(height, width)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, channels, height, width), np.uint8)
    heaviest = loads()
    turns: dict[str, Callable[[], object]] = {f"roofline {name}": load.run for name, load in heaviest.items()}
    turns |= {name: lambda way=way: way.runtime.run(pixels) for name, way in ways.items()}  # type: ignore[misc]
    rates = _rates(turns, rounds)
    limits = {name: rates.pop(f"roofline {name}") * load.gflop for name, load in heaviest.items()}
    speeds = {name: rate * batch for name, rate in rates.items()}
    inference = {
        name: {"images_per_second": round(speed, 2), "share_of_roofline": _share(speed * flop, limits, name)}
        for name, speed in speeds.items()
    }
    best = max(speeds, key=lambda name: speeds[name])
    pipeline = _pipeline(ways[best], files, count)
    cascade = {"cascade": _cascade(loaded, files, count)} if images is not None and has_cascade(loaded) else {}
    return {
        "recipe": loaded.manifest.revision,
        "cores": cores(),
        "input": list(loaded.input_shape),
        "gflop_per_image": round(flop, 3),
        "roofline": {name: round(rate, 1) for name, rate in limits.items()},
        "stages": stages,
        "inference": inference,
        "pipeline": {"with": best, **pipeline},
        **cascade,
        "bound_by": _bound(best, inference[best], pipeline, stages),
    }


def _files(images: str | Path | None, recipe: Recipe) -> Files:
    if images is not None:
        read = ((item.name, item.read()) for item in islice(stream(images).items, MOST))
        return [(name, data) for name, data in read if isinstance(data, bytes)]  # all are: they come from places
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(8):
        picture = cv2.GaussianBlur(rng.normal(120, 60, (300, 300)).astype(np.float32), (0, 0), 2)
        grey = np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
        image = grey if recipe.input_shape[0] == 1 else np.stack([grey, grey // 2, 255 - grey], axis=2)
        drawn.append((f"drawn {number}", cv2.imencode(".png", image)[1].tobytes()))
    return drawn


def _stages(recipe: Recipe, files: Files, rounds: int) -> dict[str, float]:
    """Returns images/s of one core for what comes before the network."""
    channels, height, width = recipe.input_shape
    whole = [decode(data, name=name) for name, data in files]
    prepare = recipe.manifest.preprocessing.apply
    ways: dict[str, Callable[[], object]] = {
        "decode": lambda: [decode(data, name=name) for name, data in files],
        "resize": lambda: [fit(image, height, width, channels) for image in whole],
    }
    if recipe.manifest.preprocessing.cache_key:
        ways["region and leads"] = lambda: [prepare(image) for image in whole]
    return {name: round(rate * len(files), 1) for name, rate in _rates(ways, rounds).items()}


def _rates(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Returns how often a second each way can be called, by the median of its rounds."""
    for work in ways.values():
        work()
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - began)
    return {name: 1 / statistics.median(times) for name, times in took.items()}


def _pipeline(way: Session, files: Files, count: int) -> dict[str, Any]:
    def items() -> Iterator[Item]:
        for name, data in islice(cycle(files), count):
            yield Item(name, lambda data=data: data)  # type: ignore[misc]

    profile = Profile()
    for _ in way.stream(items(), profile=profile):
        pass
    return profile.document()


def _cascade(recipe: Recipe, files: Files, count: int) -> dict[str, Any]:
    way, went_up = open_cascade(recipe), []
    assert isinstance(way.runtime, CascadeRuntime)
    way.runtime.watch = lambda zones: went_up.extend(zones == PASSED)
    done = _pipeline(way, files, count)
    return {"passed_on": round(float(np.mean(went_up)), 4), **done}


def _share(rate: float, limits: dict[str, float], name: str) -> float | None:
    limit = limits.get(name.rsplit(" ", 1)[-1])
    return None if limit is None else round(rate / limit, 3)


def _bound(name: str, fastest: dict[str, Any], pipeline: dict[str, Any], stages: dict[str, float]) -> str:
    """Returns in words what one would have to make faster."""
    alone, whole = fastest["images_per_second"], pipeline["images_per_second"]
    share = fastest["share_of_roofline"]
    reached = "" if share is None else f", at {100 * share:.0f} % of what the machine can in that precision"
    text = f"{name} alone does {alone:.0f} images/s{reached}; "
    text += f"files to decisions {whole:.0f}/s ({100 * whole / alone:.0f} %)."
    before = 1 / sum(1 / rate for rate in stages.values()) * cores()
    if before < alone:
        return (
            text + f" Decoding bounds it: all cores together decode {before:.0f}/s. Smaller files or more cores help."
        )
    if share is not None and share < 0.5:
        return text + " The network bounds it, and not by arithmetic: its layers are small or depthwise."
    return text + " The network's arithmetic bounds it: a smaller network, a smaller input or int8 help."

"""What whole decoding costs `predict`: images a second, prepared for the network, against the ways it was done before.

    python benchmarks/decoding.py

JPEGs and PNGs of 1,120 and 2,448 pixels, grey and colour, are decoded and fitted to 224 pixels in one thread, the ways
in turn in one process, and medians are compared:

- now: `decoding` and `fit` as every door of knowngood does it;
- reduced: a JPEG decoded at 1/2 to 1/8 of its size by libjpeg, as `predict` did up to 0.1 (other pixels!);
- before: the whole JPEG, header by Pillow, planes copied for resizing, as training did; a PNG without proof that its
  data hold all rows.

The table is written to benchmarks/results/decoding.json.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch.nn import functional

from knowngood.data.images import decoding
from knowngood.data.pixels import fit

SIDE = 224
RESULTS = Path(__file__).parent / "results" / "decoding.json"


def photograph(side: int, colour: bool) -> np.ndarray:
    """Returns a smooth scene with a camera's noise, (side, side) or (side, side, 3) uint8."""
    rng = np.random.default_rng(0)
    small = rng.normal(120, 50, (32, 32, 3) if colour else (32, 32)).astype(np.float32)
    scene = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)


def now(data: bytes, channels: int) -> np.ndarray:
    with decoding(data) as decoded:
        return fit(decoded.pixels, SIDE, SIDE, channels)


def before(data: bytes, channels: int, least: int = 0) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        kind, mode = image.format, image.mode
    if kind == "PNG":
        flag = cv2.IMREAD_GRAYSCALE if mode == "L" else cv2.IMREAD_COLOR_RGB
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    else:
        space = "GRAY" if mode == "L" else "RGB"
        pixels = simplejpeg.decode_jpeg(data, space, min_height=least, min_width=least)
        pixels = pixels[:, :, 0] if mode == "L" else pixels
    planes = np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    tensor = torch.from_numpy(planes.copy())[None]
    made: np.ndarray = functional.interpolate(tensor, (SIDE, SIDE), mode="bilinear", antialias=True)[0].numpy()
    return made


def reduced(data: bytes, channels: int) -> np.ndarray:
    return before(data, channels, 2 * SIDE)


def measured(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median milliseconds of each way, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=25)
    rounds = arguments.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for side in (1120, 2448):
        for colour in (False, True):
            pixels, channels = photograph(side, colour), 3 if colour else 1
            for kind, options in (("JPEG", {"quality": 90}), ("PNG", {})):
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, kind, **options)
                data = stream.getvalue()
                ways: dict[str, Callable[[], Any]] = {
                    "now": lambda data=data, channels=channels: now(data, channels),
                    "before": lambda data=data, channels=channels: before(data, channels),
                }
                if kind == "JPEG":
                    ways["reduced"] = lambda data=data, channels=channels: reduced(data, channels)
                assert np.array_equal(now(data, channels), before(data, channels))
                took = measured(ways, rounds)
                row: dict[str, Any] = {"side": side, "kind": kind, "colour": colour, "bytes": len(data)}
                row |= {f"{name}_per_second": round(1000 / each, 1) for name, each in took.items()}
                row |= {f"now_to_{name}": round(took[name] / took["now"], 2) for name in ways if name != "now"}
                rows.append(row)
                print(row, flush=True)
    RESULTS.write_text(json.dumps({"fitted_to": SIDE, "threads": 1, "rounds": rounds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

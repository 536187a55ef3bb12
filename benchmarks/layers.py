"""What bounds an int8 network on this machine: images/s, share of the measured int8 peak, time by kind of layer.

OpenVINO's own profile of each compiled graph (batches of 32, random weights: arithmetic does not depend on them). A
depthwise layer has 9 or 25 multiplications for each value that it reads: it waits for memory and cannot use the int8
matrix unit, so that a network full of them stays far below the peak whatever is done.

    python benchmarks/layers.py
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import numpy as np
from engine import pictures, read, recipe_of

from knowngood.environment import versions_of
from knowngood.files import write_json
from knowngood.models.cost import cost_of
from knowngood.recipe.bench import loads
from knowngood.recipe.export_formats import EXPORTERS, OPENVINO_FILE
from knowngood.recipe.graphs import Scorer
from knowngood.telemetry import switch_off

NETWORKS = (("efficientnet_lite0", 224), ("efficientnet_lite0", 128), ("resnet18", 224), ("resnet18", 128),
            ("resnet50", 224))  # fmt: skip
BATCH, WARM, ROUNDS = 32, 3, 9


def kind_of(one: Any) -> str:
    made = f"{one.node_type} {one.exec_type}".lower()
    if "groupconv" in made or "_dw" in made:
        return "depthwise convolutions"
    if "conv" in made:
        return "1x1 convolutions" if "1x1" in made else "other convolutions"
    if "reorder" in made or "convert" in made or "quant" in made:
        return "conversions"
    return "rest"


def profiled(folder: Path, batch: np.ndarray) -> tuple[float, dict[str, float]]:
    switch_off()
    import openvino

    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    plain = core.compile_model(folder / OPENVINO_FILE, "CPU", settings).create_infer_request()
    took = []
    for number in range(WARM + ROUNDS):
        began = time.perf_counter()
        plain.infer({"images": batch}, share_inputs=True)
        if number >= WARM:
            took.append(time.perf_counter() - began)
    watched = core.compile_model(folder / OPENVINO_FILE, "CPU", settings | {"PERF_COUNT": "YES"}).create_infer_request()
    for _ in range(WARM):
        watched.infer({"images": batch}, share_inputs=True)
    shares: dict[str, float] = {}
    for one in watched.get_profiling_info():
        shares[kind_of(one)] = shares.get(kind_of(one), 0.0) + one.real_time.total_seconds()
    whole = sum(shares.values())
    return len(batch) / statistics.median(took), {name: round(part / whole, 3) for name, part in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "layers.json")
    given = parser.parse_args()
    top, exporter = loads()["int8"], EXPORTERS.get("openvino")()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        pngs, _ = pictures(place / "jpeg", 32)
        for backbone, side in NETWORKS:
            recipe = recipe_of(backbone, side)
            sample = np.stack([recipe.fitted(read(path)) for path in pngs])
            graph = exporter.quantised(
                exporter.graph(Scorer(recipe.inspector, fold=True)), [sample[i : i + 8] for i in range(0, 32, 8)], ()
            )
            folder = place / f"{backbone}-{side}"
            folder.mkdir()
            exporter.save(graph, folder)
            rate, shares = profiled(folder, np.ascontiguousarray(np.resize(sample, (BATCH, *sample.shape[1:]))))
            top.run()
            began = time.perf_counter()
            for _ in range(3):
                top.run()
            peak = 3 * top.gflop / (time.perf_counter() - began)
            gflop = cost_of(recipe.manifest.networks[0]).flops / 1e9
            found[f"{backbone} at {side}"] = {
                "images/s": round(rate, 1),
                "GFLOP": round(gflop, 3),
                "int8 peak just after, GFLOP/s": round(peak, 1),
                "share of the peak": round(rate * gflop / peak, 3),
                "time by kind of layer": shares,
            }
            print(backbone, side, found[f"{backbone} at {side}"], flush=True)
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load of the machine": round(os.getloadavg()[0], 2),
        "versions": versions_of("openvino", "nncf", "knowngood"),
        "networks": found,
    }
    write_json(given.out, document)


if __name__ == "__main__":
    main()

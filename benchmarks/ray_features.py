"""Features by two Ray workers beside the plain way on the same photographs: images/s, equal rows, a worker killed.

Rounds alternate, medians count; every run begins with nothing in the cache. "whole call" is with everything: reading
and hashing the photographs, loading the network, starting workers. "at work" leaves the start out: what was computed
after each worker had finished a part; of the plain way, what was computed after the first 1,024 rows were kept.

    python benchmarks/ray_features.py [--images 2624] [--model efficientnet_lite0]
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import numpy as np
import polars as pl
from ray_engine import at_work, killing

from knowngood.data.loading import load
from knowngood.environment import cores, versions_of
from knowngood.files import write_json
from knowngood.models.features import SHARD, features, write_features
from knowngood.models.features_on_cluster import features_on_cluster
from knowngood.scale.config import ClusterConfig
from knowngood.scale.connecting import connected
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "ray_features.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2624)
    parser.add_argument("--part-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as scratch:
        document = {
            "what": __doc__.splitlines()[0],
            "command": "python " + shlex.join(sys.argv),
            "load of the machine before": before,
            "cores": cores(),
            "versions": versions() | versions_of("ray"),
            **measured(Path(scratch), given),
        }
    write_json(given.out, document)
    print(document)


def measured(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    photographs = place / "cells" / "good"
    photographs.mkdir(parents=True)
    for number, path in enumerate(load("elpv").usable().frame["path"].to_list()[: given.images]):
        (photographs / f"{number:07}.png").symlink_to(path)
    each = max(1, cores() // given.workers)
    config = ClusterConfig(engine="ray", part_size=given.part_size, worker_cores=each)
    asked = {"model": given.model, "image_size": given.image_size}
    names = ("plain, whole call", "plain, at work", "ray, whole call", "ray, at work")
    rates: dict[str, list[float]] = {name: [] for name in names}
    equal = []
    with connected(cpus=given.workers * each, store=None):
        for number in range(given.rounds):
            plain, began = place / f"plain{number}.parquet", time.perf_counter()
            os.environ["KNOWNGOOD_CACHE"] = str(place / f"cache{number}")
            records = load(photographs.parent).usable()
            write_features(records, features(records, **asked), plain)
            rates["plain, whole call"].append(given.images / (time.perf_counter() - began))
            kept = sorted(path.stat().st_mtime for path in place.glob(f"cache{number}/features/*/*.safetensors"))
            rates["plain, at work"].append((given.images - SHARD) / (kept[-1] - kept[0]))
            out, began = place / f"features{number}", time.perf_counter()
            done = features_on_cluster(photographs.parent, out, config, **asked)
            rates["ray, whole call"].append(given.images / (time.perf_counter() - began))
            rates["ray, at work"].append(at_work(out, done.parts, given))
            equal.append(compared(pl.read_parquet(plain), done.rows().collect()))
            print(number, {name: round(rate[-1], 1) for name, rate in rates.items()}, equal[-1], flush=True)
            shutil.rmtree(out)
        out, began = place / "killed", time.perf_counter()
        victim = killing(out)
        rows = features_on_cluster(photographs.parent, out, config, **asked).rows().collect()
        took = round(time.perf_counter() - began, 1)
    medians = {name: round(statistics.median(rate), 2) for name, rate in rates.items()}
    return {
        "images": given.images,
        "backbone": given.model,
        "workers": given.workers,
        "images/s": medians,
        "ray / plain": {
            how: round(medians[f"ray, {how}"] / medians[f"plain, {how}"], 3) for how in ("whole call", "at work")
        },
        "rows": equal,
        "a worker killed": {"seconds": took, "killed": victim, **compared(pl.read_parquet(plain), rows)},
    }


def compared(plain: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Any]:
    """How two tables differ."""
    ours, theirs = rows["features"].to_numpy(), plain["features"].to_numpy()
    return {
        "equal but for features": plain.drop("features").equals(rows.drop("features")),
        "rows equal to the last bit": int((ours.view(np.uint32) == theirs.view(np.uint32)).all(axis=1).sum()),
        "largest difference": float(np.abs(ours - theirs).max()),
    }


if __name__ == "__main__":
    main()

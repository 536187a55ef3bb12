"""Two Ray workers beside the plain engine on the same photographs: images/s, equal rows, a worker killed on the way.

The cells are elpv's PNGs, the recipe is what preset quick makes of them (or --run), exported where --export says so.
Rounds alternate, medians count. "whole call" is with everything: opening the recipe here, starting workers there.
"at work" leaves that out: the engine's own profile here, there what was scored after each worker had finished a part.

    python benchmarks/ray_engine.py [--export int8] [--images 2048] [--run RUN]
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import numpy as np
import polars as pl

from knowngood.data.loading import load
from knowngood.environment import cores, versions_of
from knowngood.files import write_json
from knowngood.recipe.cluster import predict_on_cluster
from knowngood.recipe.engine import Profile
from knowngood.recipe.exporting import export
from knowngood.recipe.options import EngineConfig
from knowngood.recipe.predicting import predict
from knowngood.recipe.session import open_session
from knowngood.scale.connecting import connected
from knowngood.scale.parts import attempts_file, rows_file
from knowngood.workflows.runs import versions
from knowngood.workflows.train import train

RESULT = Path(__file__).parent / "results" / "ray_engine.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--part-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="A finished run; by default one is trained.")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--export", help="Precision, such as int8, to export the run to first.")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        run = given.run or place / "run"
        if given.run is None:
            train("elpv", run, preset="quick", model=given.model, image_size=given.image_size)
        if given.export:
            export(run, precision=given.export)
        document = {
            "what": __doc__.splitlines()[0],
            "command": "python " + shlex.join(sys.argv),
            "load of the machine before": before,
            "cores": cores(),
            "versions": versions() | versions_of("openvino", "ray"),
            **measured(run, place, given),
        }
    write_json(given.out, document)
    print(document)


def measured(run: Path, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    photographs = place / "cells"  # links to them, so that any number can be asked for
    photographs.mkdir()
    found = load("elpv").usable().frame["path"].to_list()
    for number in range(given.images):
        (photographs / f"{number:07}.png").symlink_to(found[number % len(found)])
    each = max(1, cores() // given.workers)
    config = EngineConfig(engine="ray", cascade=False, part_size=given.part_size, worker_cores=each)
    names = ("plain, whole call", "plain, at work", "ray, whole call", "ray, at work")
    rates: dict[str, list[float]] = {name: [] for name in names}
    equal = []
    with connected(cpus=given.workers * each):
        for number in range(given.rounds):
            profile, began = Profile(), time.perf_counter()
            plain = predict(run, photographs, cascade=False, profile=profile)
            rates["plain, whole call"].append(given.images / (time.perf_counter() - began))
            rates["plain, at work"].append(float(str(profile.document()["images_per_second"])))
            out, began = place / f"scores{number}", time.perf_counter()
            done = predict_on_cluster(run, photographs, out, config)
            rates["ray, whole call"].append(given.images / (time.perf_counter() - began))
            rates["ray, at work"].append(at_work(out, done.parts, given))
            equal.append(compared(plain, done.rows().collect()))
            print(number, {name: round(rate[-1], 1) for name, rate in rates.items()}, equal[-1], flush=True)
            shutil.rmtree(out)
        out, began = place / "killed", time.perf_counter()
        victim = killing(out)
        rows = predict_on_cluster(run, photographs, out, config).rows().collect()
        killed = {"seconds": round(time.perf_counter() - began, 1), "killed": victim, **compared(plain, rows)}
    medians = {name: round(statistics.median(rate), 2) for name, rate in rates.items()}
    return {
        "images": given.images,
        "recipe": open_session(run, cascade=False).label,
        "workers": given.workers,
        "images/s": medians,
        "ray / plain": {
            how: round(medians[f"ray, {how}"] / medians[f"plain, {how}"], 3) for how in ("whole call", "at work")
        },
        "rows": equal,
        "a worker killed": killed,
    }


def at_work(out: Path, parts: int, given: argparse.Namespace) -> float:
    """Images/s from when as many parts were whole as there are workers, until the last was."""
    ends = sorted(rows_file(out, number).stat().st_mtime for number in range(parts))
    return (given.images - given.workers * given.part_size) / max(1e-9, ends[-1] - ends[given.workers - 1])


def compared(plain: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Any]:
    """How two tables differ: copies of one photograph may score apart in a plain run, and do not on a cluster."""
    rows = rows.sort("image")
    apart = np.abs(plain["defect_score"].to_numpy() - rows["defect_score"].to_numpy())
    return {
        "equal but for scores": plain.drop("defect_score").equals(rows.drop("defect_score")),
        "scores equal": int((apart == 0).sum()),
        "largest difference": float(apart.max()),
    }


def killing(out: Path) -> list[int]:
    """Kills one of our workers as soon as a part is whole; returns a list that will have its number."""
    victims: list[int] = []

    def kill() -> None:
        while not attempts_file(out, 1).exists() or not any((out / "rows").glob("[0-9]*.parquet")):
            time.sleep(0.01)
        victims.append(int(attempts_file(out, 1).read_text().split()[0]))
        os.kill(victims[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    return victims


if __name__ == "__main__":
    main()

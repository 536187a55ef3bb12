"""Cost as the work grows: seconds and peak memory of `features`, `audit` and `compare` at 1k to 30k images.

The photographs are parts of the look-alike, drawn once. Each step runs in a process of its own, for its peak memory,
and with a feature cache of its own, so that nothing is read that was not made before. The network is ResNet-50, whose
rows are as wide as usual (2,048 and 7,168), at a small size, so that 30,000 photographs take minutes without a GPU:
the seconds of `features` are those of that size, everything after it depends on the number of rows alone.

    python benchmarks/growth.py
    python benchmarks/growth.py --steps compare --sizes 1000 3000 10000   # adds to what is there
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from knowngood.files import cache_folder, write_json
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "growth.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
STEPS = ("features", "features again", "audit", "compare")
SLOW = {"compare": 10_000}  # a step is measured up to this many images


def features_step(manifest: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Lists, hashes, decodes and sends every photograph through the network; the second time reads the cache."""
    from knowngood.data.loading import load
    from knowngood.models.features import features

    made = features(load(manifest).usable(), given.model, image_size=given.image_size, stages=True)
    return {"computed": made.computed, "width": made.rows.shape[1]}


def audit_step(manifest: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The whole audit, with features that are cached already."""
    from knowngood.experiments.audit import audit

    done = audit(manifest, given.scratch / "audit", model=given.model, image_size=given.image_size)
    return {"counts": done.counts}


def compare_step(manifest: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One epoch of ResNet-18 from random weights at 64 pixels, one seed."""
    import knowngood

    compare: Callable[..., Any] | None = getattr(knowngood, "compare", None)
    if compare is None:
        return {"skipped": "knowngood.compare is not there"}
    out = given.scratch / "compare"
    shutil.rmtree(out, ignore_errors=True)
    compare(manifest, out, models=["resnet18"], seeds=1, epochs=1, image_size=64, pretrained=False)
    return {"what": "resnet18, 1 epoch, 64 px, 1 seed"}


WORK = {"features": features_step, "features again": features_step, "audit": audit_step, "compare": compare_step}


def one(step: str, manifest: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measures one step in this process: packages are imported before the clock starts."""
    import knowngood.experiments.audit  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, cpu = time.perf_counter(), time.process_time()
    found = WORK[step](manifest, given)
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {"seconds": round(seconds, 2), "cpu_seconds": round(used, 2), "peak_mb": round(peak)}
    return measured | {"more_memory_mb": round(peak - before)} | found


def manifests(given: argparse.Namespace) -> dict[int, Path]:
    """Draws the largest set once and writes a manifest of its first images for each size."""
    from knowngood.lookalike.generate import generate, is_complete
    from knowngood.lookalike.source import config_of, folder_of

    config = config_of(f"tape:train={max(given.sizes)},test=0,masks=false,difficulty={given.difficulty}")
    folder = folder_of(config)
    if not is_complete(folder, config):
        generate(folder, config, force=True)
    rows = pl.read_parquet(folder / "manifest.parquet").select("image", "label", "lot")
    rows = rows.with_columns(image=pl.lit(f"{folder}/") + pl.col("image"))
    made = {}
    for size in given.sizes:
        made[size] = given.scratch / f"{size}.csv"
        rows.head(size).write_csv(made[size])
    return made


def measured(step: str, size: int, manifest: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Runs one step in a process of its own."""
    options = ["--model", given.model, "--image-size", str(given.image_size), "--scratch", str(given.scratch)]
    command = [sys.executable, __file__, "--one", step, str(manifest), *options]
    cache = given.scratch / f"cache-{size}"
    if step == "features":
        shutil.rmtree(cache, ignore_errors=True)
    weights = os.environ.get("KNOWNGOOD_WEIGHTS", str(cache_folder("weights")))
    environment = os.environ | {"KNOWNGOOD_CACHE": str(cache), "KNOWNGOOD_WEIGHTS": weights}
    load = os.getloadavg()[0]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    row = {"step": step, "images": size, **json.loads(answer), "load_average": round(load, 1)}
    print(row, file=sys.stderr, flush=True)
    return row


def draw(table: list[dict[str, Any]], target: Path, said: str) -> None:
    """Draws seconds and peak memory over the number of images, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4), dpi=110, layout="constrained")
    for step, colour, mark in zip(STEPS, ("#0072b2", "#56b4e9", "#c74f00", "#00775a"), "osD^", strict=True):
        rows = sorted((row for row in table if row["step"] == step and "seconds" in row), key=lambda r: r["images"])
        for panel, name in zip(panels, ("seconds", "peak_mb"), strict=True):
            if rows:
                panel.plot([r["images"] for r in rows], [r[name] for r in rows], color=colour, marker=mark, label=step)
    for panel, title in zip(panels, ("seconds", "peak memory, MB"), strict=True):
        panel.set_xscale("log"), panel.set_yscale("log")
        sizes = sorted({row["images"] for row in table})
        panel.set_xticks(sizes, [f"{size // 1000}k" for size in sizes], minor=False)
        panel.minorticks_off()
        panel.set_xlabel("images"), panel.set_title(title, loc="left", fontsize=11)
        panel.grid(color="#d8dee4", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    most = max(row["peak_mb"] for row in table)
    panels[1].set_yticks([500 * 2**power for power in range(12) if 500 * 2**power < 1.5 * most])
    panels[1].set_ylim(700, 1.3 * most)
    panels[1].yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panels[0].legend(frameon=False)
    figure.supxlabel(said, fontsize=8, color="#5a646f")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000, 30_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--difficulty", type=float, default=0.25)
    parser.add_argument("--scratch", type=Path, default=Path("runs/growth"))
    parser.add_argument("--one", nargs=2, metavar=("STEP", "MANIFEST"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args()
    given.scratch = given.scratch.absolute()
    if given.one:
        print(json.dumps(one(given.one[0], Path(given.one[1]), given)))
        return
    given.scratch.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"table": []}
    if given.out.is_file():
        document = json.loads(given.out.read_text(encoding="utf-8"))
    for size, manifest in manifests(given).items():
        for step in given.steps:
            if size > SLOW.get(step, size):
                continue
            row = measured(step, size, manifest, given)
            if "skipped" not in row:
                others = [r for r in document["table"] if (r["step"], r["images"]) != (step, size)]
                document["table"] = sorted([*others, row], key=lambda r: (STEPS.index(r["step"]), r["images"]))
    document |= {
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
        "network": f"{given.model} at {given.image_size} px",
    }
    write_json(given.out, document)
    draw(document["table"], given.picture, f"{document['network']}, look-alike parts, {os.cpu_count()} cores, no GPU")


if __name__ == "__main__":
    main()

"""Conventional classifiers on ResNet-50 features: solar cells, magnetic tiles (split by part), the look-alike.

    python benchmarks/classical.py --set elpv --seeds 3
    python benchmarks/classical.py --set magnetic_tile --seeds 3
    python benchmarks/classical.py --set tape --seeds 3

Features are cached by content, so only the first run of a set takes its time in the network.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from magnetic_tile import DATA, manifest
from summary import spread

from knowngood.cli.output import at_work
from knowngood.experiments.classical import classical
from knowngood.files import write_json
from knowngood.workflows.runs import versions

TAPE = "tape:train=1500,test=500,seed=0"
SETS = ("elpv", "magnetic_tile", "tape")
FIGURES = ("auroc", "accuracy", "average_precision", "balanced_accuracy", "ece")


def data_of(name: str, runs: Path) -> str:
    """Returns what `classical` is given for a set."""
    if name == "magnetic_tile":
        return str(manifest(DATA, runs / "manifest.csv"))
    return TAPE if name == "tape" else name


def averages(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns each model's figures as mean and spread over the seeds."""
    found = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        tests = [row["test"] for row in own]
        found[name] = {
            "test": {figure: spread([test[figure] for test in tests]) for figure in FIGURES},
            "overkill_at_tpr": {t: spread([test["fpr_at_tpr"][t] for test in tests]) for t in tests[0]["fpr_at_tpr"]},
            **{
                figure: spread([row[figure] for row in own])
                for figure in ("cv_auroc", "train_accuracy", "seconds", "images_per_second")
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    runs = given.runs or Path("runs") / "classical" / given.set
    with at_work():
        done = classical(data_of(given.set, runs), runs, model=given.model, seeds=given.seeds)
    two, whole = done.pca.two, done.pca.whole
    assert two is not None
    assert whole is not None
    document = {
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
        "models": averages(done.rows),
        "line": {
            "two_components": {"auroc": two[0], "accuracy": two[1]},
            "all_features": {"auroc": whole[0], "accuracy": whole[1]},
            "larger_class": done.pca.larger,
            "variance_of_two_components": sum(done.pca.explained[:2]),
        },
        "rows": done.rows,
    }
    out = given.out or Path(__file__).parent / "results" / f"classical_{given.set}.json"
    write_json(out, document)
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

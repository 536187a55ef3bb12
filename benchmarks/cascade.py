"""The cascade beside its large network and beside the obvious ResNet-50 script: images/s, AUC, overkill, escapes.

Trains ResNet-50 (preset quick, 224 pixels), exports it to int8, puts a student before it (`knowngood cascade`), and
scores the test split of the run in all ways, in turns in one process. The test split has set nothing.

    python benchmarks/cascade.py elpv
    python benchmarks/cascade.py tape
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does

import argparse
import datetime
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import numpy as np
import polars as pl
from engine import obvious, recipe_of, timed

from knowngood.cli.output import at_work
from knowngood.files import write_json
from knowngood.metrics.comparisons import compare_auroc
from knowngood.metrics.figures import auroc, fpr_at_tpr
from knowngood.recipe.engine import Profile
from knowngood.recipe.exporting import export
from knowngood.recipe.inputs import stream
from knowngood.recipe.options import Tolerance
from knowngood.recipe.session import Session, open_cascade, open_session
from knowngood.workflows.cascade import cascade
from knowngood.workflows.runs import versions
from knowngood.workflows.train import train

RESULTS = Path(__file__).parent / "results"
DATA = {"elpv": "elpv", "tape": "tape:train=2500,test=1500,bad_rate=0.1,seed=0"}


def scored(one: Session, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    said = [each.prediction for each in one.stream(stream(paths).items)]
    return np.array([each.defect_score for each in said], float), np.array([each.decision for each in said])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(DATA))
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--student-size", type=int, default=128)
    parser.add_argument("--escape-budget", type=float, default=0.01)
    parser.add_argument("--max-score", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--script-images", type=int, default=96)
    given = parser.parse_args()
    run = Path("runs") / f"cascade-{given.data}"
    with at_work():
        train(DATA[given.data], run, model=given.model, preset="quick", escape_budget=given.escape_budget)
        exported = export(run, precision="int8", tolerance=Tolerance(max_score=given.max_score))
        made = cascade(run, student_size=given.student_size)
    table = pl.read_parquet(run / "scores.parquet").filter(pl.col("split") == "test", pl.col("label").is_not_null())
    paths, labels = table["path"].to_list(), table["label"].to_numpy()
    ways = {"torch": open_session(run, "torch"), "int8": open_session(run, "openvino"), "cascade": open_cascade(run)}
    quality: dict[str, Any] = {}
    scores = {}
    for name, one in ways.items():
        values, decisions = scored(one, paths)
        scores[name] = values
        quality[name] = {
            "auc": auroc(labels, values),
            "overkill at TPR 0.995": fpr_at_tpr(labels, values, 0.995),
            "escapes": int((decisions[labels == 1] == "accept").sum()),
            "overkill": float((decisions[labels == 0] != "accept").mean()),
        }
    script = obvious(recipe_of(given.model), [Path(path) for path in paths[: given.script_images]])
    rates = timed(
        {
            "obvious script": script,
            "int8, files to decisions": lambda: sum(1 for _ in ways["int8"].stream(stream(paths).items)),
            "cascade, files to decisions": lambda: sum(1 for _ in ways["cascade"].stream(stream(paths).items)),
        },
        given.rounds,
    )
    difference = compare_auroc(labels, scores["cascade"], scores["int8"])
    document = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "load of the machine": round(os.getloadavg()[0], 2),
        "versions": versions(),
        "data": DATA[given.data],
        "test images": {"good": int((labels == 0).sum()), "bad": int((labels == 1).sum())},
        "test": quality,
        "auc, cascade less int8": asdict(difference),
        "images/s": {name: round(rate, 1) for name, rate in rates.items()},
        "cascade / obvious script": round(rates["cascade, files to decisions"] / rates["obvious script"], 1),
        "cascade / int8": round(rates["cascade, files to decisions"] / rates["int8, files to decisions"], 2),
        "export": {"wide": list(exported.document.wide), "parity": exported.document.parity},
        "cascade": made.document.model_dump(mode="json"),
        "profile": profile(ways["cascade"], paths),
    }
    write_json(RESULTS / f"cascade_{given.data}.json", document)
    print({name: document[name] for name in ("test", "images/s", "cascade / obvious script", "cascade / int8")})


def profile(one: Session, paths: list[str]) -> dict[str, object]:
    made = Profile()
    for _ in one.stream(stream(paths).items, profile=made):
        pass
    return made.document()


if __name__ == "__main__":
    main()

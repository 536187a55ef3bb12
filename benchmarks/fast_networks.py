"""Is there a network with EfficientNet-Lite0's AUC on the solar cells that passes 1,500 images/s in int8 on two cores?

Candidates are fronts of the ImageNet ResNet-50 (the first blocks of its first stages, see `Backbone.blocks`) and Lite0
itself at fewer pixels; all are frozen, with the SVM head of `knowngood train`. Every seed divides the set as
training does. "chosen by" is the AUC out of fold on training and validation images, the only one to choose by; the
test split is reported once, paired with Lite0 at 224 (DeLong). Speed is the engine's runtime alone, batches of 32,
SVM head included, in turns with the machine's int8 peak.

    python benchmarks/fast_networks.py accuracy     # minutes; makes features once and keeps them
    python benchmarks/fast_networks.py speed
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does

import argparse
import datetime
import json
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

import numpy as np
import torch
from engine import BATCH, pictures, read, timed

from knowngood.data.loading import load
from knowngood.data.pixels import fit
from knowngood.data.records import BAD
from knowngood.data.splits import split
from knowngood.data.units import groups_of
from knowngood.environment import versions_of
from knowngood.files import write_json
from knowngood.metrics.comparisons import compare_auroc
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Inspector, network_for, svm_config
from knowngood.models.cost import cost_of
from knowngood.models.features import features
from knowngood.models.weights.search import find
from knowngood.recipe.bench import loads
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.graphs import Scorer
from knowngood.recipe.options import RUNTIMES
from knowngood.recipe.runtimes import Graph
from knowngood.training.config import TrainConfig
from knowngood.training.svm_head import fit_svm_on
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "fast_networks.json"
REFERENCE = ("efficientnet_lite0", 224)
FRONTS = ((3, 4), (2, 3), (1, 1, 1), (3, 4, 6))
CANDIDATES: tuple[tuple[str, int], ...] = (
    REFERENCE,
    ("efficientnet_lite0", 128),
    ("efficientnet_lite0", 96),
    ("resnet50 3-4", 96),
    ("resnet50 2-3", 96),
    ("resnet50 1-1-1", 128),
    ("resnet50 3-4-6", 64),
)
Split = tuple[np.ndarray, np.ndarray]


def register_fronts() -> None:
    for blocks in FRONTS:
        stages = tuple(range(1, 1 + len(blocks)))
        strided = tuple(f"layer{stage}.0" for stage in stages[1:])
        known = BACKBONES.get("resnet50_front")
        front = replace(known, stages=stages, strided_1x1=strided, blocks=blocks)
        BACKBONES.register("resnet50 " + "-".join(map(str, blocks)), front)


def accuracy(given: argparse.Namespace) -> dict[str, Any]:
    records = load("elpv").usable()
    groups = groups_of(records)
    divided = [split(records, TrainConfig(), seed=seed, groups=groups) for seed in range(given.seeds)]
    bad = (records.frame["label"] == BAD).fill_null(False).to_numpy()
    found: dict[str, Any] = {}
    raw_scores: dict[str, list[np.ndarray]] = {}
    for backbone, size in dict.fromkeys([REFERENCE, *chosen_ones(given)]):
        rows = features(records, backbone, image_size=size, stages=True).stages
        assert rows is not None
        name, chosen, supports = f"{backbone} at {size}", [], []
        raw_scores[name] = []
        for seed, one in enumerate(divided):
            splits = one.frame["split"].to_numpy()
            made = fit_svm_on(rows, one, groups, np.flatnonzero(np.isin(splits, ("train", "val"))), seed)
            chosen.append(max(row["auroc"] for row in made.table))
            supports.append(len(made.head.alpha))
            with torch.inference_mode():
                raw_scores[name].append(made.head(torch.from_numpy(rows[splits == "test"])).numpy())
        tests = [one.frame["split"].to_numpy() == "test" for one in divided]
        paired = [
            compare_auroc(bad[test], mine, theirs)
            for test, mine, theirs in zip(
                tests, raw_scores[name], raw_scores["{} at {}".format(*REFERENCE)], strict=True
            )
        ]
        aucs = [each.auroc_a for each in paired]
        found[name] = {
            "chosen by: AUC out of fold": spread(chosen),
            "test AUC": spread(aucs),
            "less Lite0 at 224, paired, a seed each": [
                {k: v for k, v in asdict(each).items() if k in ("difference", "interval", "p_value")} for each in paired
            ],
            "less Lite0 at 224, mean": round(statistics.mean(each.difference for each in paired), 4),
            "support vectors": supports,
        }
        print(name, found[name], flush=True)
    return found


def chosen_ones(given: argparse.Namespace) -> list[tuple[str, int]]:
    return [one for one in CANDIDATES if given.only is None or "{} at {}".format(*one) in given.only]


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": round(statistics.mean(values), 4),
        "stdev": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "seeds": [round(value, 4) for value in values],
    }


def speed(given: argparse.Namespace) -> dict[str, Any]:
    top, exporter = loads()["int8"], EXPORTERS.get("openvino")()
    ways: dict[str, Any] = {"peak": lambda: (top.run(), 1)[1]}
    work: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        pngs, _ = pictures(place / "jpeg", 32)
        for number, (backbone, size) in enumerate(chosen_ones(given)):
            name = f"{backbone} at {size}"
            base = network_for(backbone, find(backbone), size, size, 1)
            config = svm_config(base).model_copy(update={"supports": given.supports})
            torch.manual_seed(0)
            graph = exporter.graph(Scorer(Inspector((config,)).eval(), fold=True))
            sample = np.stack([fit(read(path), size, size, 1) for path in pngs])
            graph = exporter.quantised(graph, [sample[i : i + 8] for i in range(0, len(sample), 8)], ())
            folder = place / str(number)
            folder.mkdir()
            exporter.save(graph, folder)
            runtime = RUNTIMES.get("openvino")(None, Graph(folder, "int8", False))
            batch = np.ascontiguousarray(np.resize(sample, (BATCH, *sample.shape[1:])))
            ways[name] = lambda runtime=runtime, batch=batch: sum(
                len(made.raw_scores) for made in runtime.stream([batch] * 4)
            )
            work[name] = cost_of(base).flops / 1e9
        rates = timed(ways, given.rounds)
    peak = rates.pop("peak") * top.gflop
    return {
        "int8 peak, GFLOP/s": round(peak, 1),
        "support vectors": given.supports,
        "networks": {
            name: {
                "GFLOP": round(work[name], 3),
                "images/s": round(rate, 1),
                "share of the int8 peak": round(rate * work[name] / peak, 3),
            }
            for name, rate in rates.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["accuracy", "speed"])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some candidates, such as 'resnet50 3-4 at 96'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--supports", type=int, default=900)  # what the fits need, see "support vectors" of accuracy
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    register_fronts()
    document: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    for part in given.parts:
        document["what"] = __doc__.splitlines()[0]
        before = document.get(part, {}).get("found", {}) if part == "accuracy" and given.only else {}
        document[part] = {
            "command": "python " + shlex.join(sys.argv),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "load of the machine before": round(os.getloadavg()[0], 2),
            "versions": versions() | versions_of("openvino", "nncf"),
            "found": before | {"accuracy": accuracy, "speed": speed}[part](given),
        }
        write_json(given.out, document)


if __name__ == "__main__":
    main()

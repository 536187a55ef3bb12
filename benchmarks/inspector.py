"""How good the inspectors of `knowngood train` are on test photographs: five sets, each way of training, a row a run.

- `sure`: the 2,223 solar cells whose annotators were sure, five stratified folds, cell by cell, as in the literature;
- `elpv`: all 2,624, 75/25, three seeds, cell by cell;
- `tiles`: magnetic tiles, four folds by part, read where they are;
- `tape`: the look-alike, 1,500 and 1,000 images; its truth, not its labels, is tested on, and no mask is trained on;
- `contest`: the look-alike at the study's size, 30,000 and 3,000 images, a tenth bad; 128 px, one epoch of fine-tuning.

The training itself takes validation and calibration photographs from the rest, as every user's does.

    python benchmarks/inspector.py tiles:pooled:0 tiles:quick:0 tiles:standard:0 ...
    python benchmarks/inspector.py --summary
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from fine_tuning import mask_of, names_of, rows_of, to_run
from magnetic_tile import DATA, manifest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from knowngood.cam.regions import aupro, pointing_hit
from knowngood.cli.output import at_work
from knowngood.data.loading import loaded
from knowngood.data.records import BAD, Records
from knowngood.files import write_json
from knowngood.lookalike.source import config_of, folder_of
from knowngood.metrics.comparisons import compare_auroc
from knowngood.metrics.figures import TPRS, fpr_at_tpr
from knowngood.recipe.bundle import Recipe
from knowngood.training.config import TrainConfig
from knowngood.workflows.train import train

RESULT = Path(__file__).parent / "results" / "inspector.json"
FOLDS = {"sure": 5, "tiles": 4}
NEAR, VISIBLE = 15, 0.35  # pixels; severity from which a defect of the look-alike can be seen
# What a product allows is its owner's to say: cells lie in any way, tiles are mirrored, tape is not. Beside frozen
# heads more than one view brought nothing on the cells.
AUGMENT = {
    "sure": ("strong", 1),
    "elpv": ("strong", 1),
    "tiles": ("rotate+shift+zoom+flip+brightness+contrast", 4),
    "tape": ("standard", 1),
    "contest": ("standard", 1),
}
DRAWN = {
    "tape": "tape:train=1500,test=1000,bad_rate=0.2,seed={}",
    "contest": "tape:train=30000,test=3000,bad_rate=0.1,seed={}",
}
WAYS: dict[str, dict[str, Any]] = {
    "pooled": {"preset": "quick", "head": "pooled", "image_size": "own"},
    "quick": {"preset": "quick"},
    "standard": {"preset": "standard"},
    "best": {"preset": "best", "model": "resnet50"},
}


def records_of(name: str, number: int, runs: Path) -> Records:
    """Returns the photographs with the test split that the protocol wants."""
    if name in DRAWN:
        drawn = loaded(DRAWN[name].format(number))
        return drawn.with_frame(drawn.frame.with_columns(mask=pl.lit(None, pl.String)))
    records = loaded(manifest(DATA, runs / "tile.csv")) if name == "tiles" else loaded("elpv")
    if name == "elpv":
        return records
    if name == "sure":
        sure = (records.frame["probability"] < 0.01) | (records.frame["probability"] > 0.99)
        records = records.with_frame(records.frame.filter(sure))
        kept = StratifiedKFold(FOLDS[name], shuffle=True, random_state=0)
    else:
        kept = StratifiedGroupKFold(FOLDS[name], shuffle=True, random_state=0)
    labels = records.frame["label"].to_numpy()
    parts = records.frame["lot"].to_numpy() if name == "tiles" else None
    _, test = list(kept.split(labels, labels, parts))[number]
    given = np.full(len(records), None, object)
    given[test] = "test"
    return records.with_frame(records.frame.with_columns(split=pl.Series(given.tolist(), dtype=pl.String)))


def places(run: Path, truth: pl.DataFrame) -> dict[str, Any]:
    """Returns where the maps of bad test photographs are hottest, and their AUPRO."""
    recipe = Recipe.load(run / "recipe")
    found: dict[str, list[Any]] = {"hit": [], "near": [], "maps": [], "masks": []}
    for row, one in zip(truth.iter_rows(named=True), recipe.maps(truth["path"].to_list()), strict=True):
        mask = mask_of(row, one.values.shape)
        if mask is not None:
            found["hit"].append(pointing_hit(one.values, mask))
            found["near"].append(pointing_hit(one.values, mask, tolerance=NEAR))
            found["maps"].append(one.values)
            found["masks"].append(mask)
    if not found["hit"]:
        return {}
    return {
        "photographs": len(found["hit"]),
        "on": float(np.mean(found["hit"])),
        "within 15 px": float(np.mean(found["near"])),
        "AUPRO": float(aupro(found["maps"], found["masks"])),
    }


def trial(name: str, way: str, number: int, runs: Path) -> dict[str, Any]:
    """Trains once and returns what came of it on the test split."""
    folder = runs / f"{name}-{way}-{number}"
    policy, views = AUGMENT[name]
    options = {"augment": policy, "views": views if WAYS[way]["preset"] != "quick" else 1}
    if name == "contest":
        options |= {"image_size": 128} | ({"epochs": 1} if way == "standard" else {})
    unit = r"cell(\d+)" if name in ("sure", "elpv") else None
    config = TrainConfig(**(WAYS[way] | options), unit_from=unit, seed=number)
    done = train(records_of(name, number, runs), folder / "run", config)
    scores = pl.read_parquet(folder / "run" / "scores.parquet").filter(pl.col("split") == "test")
    records = pl.read_parquet(folder / "run" / "records.parquet")
    truth = scores.join(records.select("path"), on="path", how="left").with_columns(mask=pl.lit(None, pl.String))
    bad = (scores["label"] == BAD).to_numpy()
    row: dict[str, Any] = {"set": name, "way": way, "number": number, "config": config.model_dump(mode="json")}
    if name in DRAWN:
        facts = facts_of(DRAWN[name].format(number))
        truth = truth.drop("mask").join(facts, on="image", how="left")
        bad = (truth["true_label"] == "bad").to_numpy()
        row["severities"] = by_severity(scores, facts)
        row["true overkill at TPR"] = {f"{t:g}": fpr_at_tpr(bad, scores["score"].to_numpy(), t) for t in TPRS}
        truth = truth.filter((pl.col("true_label") == "bad") & (pl.col("severity") >= VISIBLE))
    else:
        truth = truth.filter(pl.col("label") == BAD)
    test = done.metrics["test"]
    row |= {
        "photographs": [int(done.metrics[s]["n_good"] + done.metrics[s]["n_bad"]) for s in ("train", "test")],
        "input": done.metrics["training"]["input"],
        "AUC": float(roc_auc_score(bad, scores["score"].to_numpy())),
        "accuracy": float(np.mean((scores["score"].to_numpy() >= 0.5) == bad)),
        "f1": test["f1"],
        "overkill at TPR": test["fpr_at_tpr"],
        "places": places(folder / "run", truth),
        "training": {k: v for k, v in done.metrics["training"].items() if k in ("members, val AUC", "fine-tuning")},
        "seconds": done.metrics["seconds"],
        "scores": dict(zip(scores["image"].to_list(), scores["score"].round(5).to_list(), strict=True)),
    }
    write_json(folder / "result.json", row)
    shutil.rmtree(folder / "run" / "work", ignore_errors=True)
    return row


def facts_of(drawn: str) -> pl.DataFrame:
    """Returns the truth about the photographs of a look-alike set: image, true_label, severity, mask."""
    folder = folder_of(config_of(drawn))
    table = pl.read_parquet(folder / "manifest.parquet").select("image", "true_label", "severity", "mask")
    return table.with_columns(mask=str(folder) + "/" + pl.col("mask"))


def by_severity(scores: pl.DataFrame, facts: pl.DataFrame) -> dict[str, Any]:
    """Returns the AUC of the bads of each band of severity against all truly good parts."""
    table = scores.join(facts, on="image", how="left")
    good = table.filter(pl.col("true_label") == "good")["score"].to_numpy()
    made = {}
    for low, high in ((0, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 0.65), (0.65, 0.8), (0.8, 1.01)):
        band = (pl.col("true_label") == "bad") & (pl.col("severity") >= low) & (pl.col("severity") < high)
        own = table.filter(band)["score"].to_numpy()
        if len(own) > 1:
            label = np.r_[np.zeros(len(good)), np.ones(len(own))]
            made[f"{low} to {high}"] = {"bads": len(own), "AUC": float(roc_auc_score(label, np.r_[good, own]))}
    return made


def truth_of(name: str, number: int, runs: Path) -> dict[str, bool]:
    """Returns which photographs of a set are bad, by name."""
    if name in DRAWN:
        facts = facts_of(DRAWN[name].format(number))
        return dict(zip(facts["image"].to_list(), (facts["true_label"] == "bad").to_list(), strict=True))
    frame = records_of(name, number, runs).frame
    return dict(zip(names_of(frame["image"]), (frame["label"] == BAD).to_list(), strict=True))


PAIRS = (("standard", "quick"), ("standard", "pooled"), ("quick", "pooled"), ("best", "quick"), ("best", "standard"))


def paired(runs: Path) -> Iterator[dict[str, Any]]:
    """Yields the AUC of one way less that of another on the same test photographs, by DeLong, and the mean over runs.

    The interval of the mean is that of the test photographs alone: trainings on other ones would vary as well.
    """
    held = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/result.json"))]
    by_way = {}
    for row in held:  # a look-alike's names are the same everywhere, those of files have the clone's folder
        images = list(row["scores"]) if row["set"] in DRAWN else names_of(row["scores"])
        by_way[row["set"], row["way"], row["number"]] = dict(zip(images, row["scores"].values(), strict=True))
    for name in sorted({row["set"] for row in held}):
        for one, other in PAIRS:
            numbers = [n for s, way, n in sorted(by_way) if (s, way) == (name, one) and (name, other, n) in by_way]
            found = []
            for number in numbers:
                bad = truth_of(name, number, runs)
                ours, theirs = (by_way[name, way, number] for way in (one, other))
                images = sorted(ours)
                pair = [[scores[image] for image in images] for scores in (ours, theirs)]
                found.append(compare_auroc([bad[image] for image in images], *pair))
            if found:
                mean = float(np.mean([each.difference for each in found]))
                error = float(np.sqrt(sum(each.error**2 for each in found))) / len(found)
                yield {
                    "set": name,
                    "ways": [one, other],
                    "numbers": numbers,
                    "each": [each.difference for each in found],
                    "mean": mean,
                    "interval": [mean - 1.96 * error, mean + 1.96 * error],
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", help="SET:WAY:NUMBER")
    parser.add_argument("--runs", type=Path, default=Path("runs/inspector"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="write results/inspector.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with at_work():
        for name, way, number in to_run(given.trials, given.runs):
            made = trial(name, way, number, given.runs)
            print(
                f"{name}:{way}:{number}",
                {key: made[key] for key in ("AUC", "accuracy", "places", "seconds")},
                flush=True,
            )
    if given.summary:
        found = list(rows_of(given.runs))
        table = {}
        for name, way in sorted({(row["set"], row["way"]) for row in found}):
            own = [row for row in found if (row["set"], row["way"]) == (name, way)]
            table[f"{name}, {way}"] = {
                key: {"each": (each := [row[key] for row in own]), "mean": float(np.mean(each))}
                for key in ("AUC", "accuracy")
            } | {
                f"hottest place {key}": float(np.mean([row["places"][key] for row in own]))
                for key in ("on", "within 15 px", "AUPRO")
                if own[0]["places"]
            }
        command = "python benchmarks/inspector.py SET:WAY:NUMBER for each row, then --summary"
        what = __doc__.splitlines()[0]
        pairs = list(paired(given.runs))
        write_json(RESULT, {"what": what, "command": command, "means": table, "paired": pairs, "rows": found})
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

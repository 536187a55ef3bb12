"""Learning from good images alone: patch memory and nearest neighbours, beside what both classes reach.

Trained on good images, tested on held-out good images and on every bad one: magnetic tiles (split by part; pixel AUROC
against their masks), the look-alike tape (pixel AUROC too), solar cells. One seed a set. The supervised
figures are those that the other benchmarks committed, on their own test splits, or a run on the same images.

    python benchmarks/one_class.py --model efficientnet_lite0
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as the command line does: idle threads give way

import argparse
import datetime
import json
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from magnetic_tile import DATA, manifest

from knowngood.cli.output import at_work
from knowngood.data.images import read_mask
from knowngood.data.loading import load
from knowngood.data.records import BAD, Records
from knowngood.files import write_json
from knowngood.metrics.curves import Tally
from knowngood.workflows.runs import versions
from knowngood.workflows.train import Trained, train

RESULTS = Path(__file__).parent / "results"
BINS = 20_000  # of the histograms that the pixel AUROC is counted from
TAPE = "tape:train=1500,test=500,seed=0"  # drawn when first asked for


def tiles(runs: Path) -> Records:
    """The magnetic tiles with their masks; 4 of them are empty and count as none."""
    records = load(manifest(DATA, runs / "tile.csv"))
    masks = [str(DATA / "masks" / f"{Path(p).stem}.png") for p in records.frame["path"]]
    bad = pl.col("label") == BAD
    return records.with_frame(records.frame.with_columns(mask=pl.when(bad).then(pl.Series(masks))))


def pixel_auroc(run: Trained, records: Records) -> dict[str, Any]:
    """Pixels of bad test images inside against outside their masks, good test images all outside; one scale."""
    table = pl.read_parquet(run.folder / "scores.parquet").filter(pl.col("split") == "test")
    rows = table.join(records.frame.select("image", "mask"), on="image").filter(
        (pl.col("label") == 0) | pl.col("mask").is_not_null()
    )
    top = 4 * float(run.recipe.inspector.state_dict()["members.0.head.level"])
    counts, boxed, hit, bads = np.zeros((2, BINS)), 0, 0, 0
    for row, one in zip(rows.iter_rows(named=True), run.recipe.maps(rows["path"]), strict=True):
        truth = np.zeros(one.values.shape, bool)
        if row["label"] == BAD:
            truth = read_mask(row["mask"], one.values.shape)
            bads += 1
            boxed += bool(one.regions)
            hit += any(truth[r.box[1] : r.box[3], r.box[0] : r.box[2]].any() for r in one.regions)
        place = np.clip(one.values / top * BINS, 0, BINS - 1).astype(int)
        for side in (0, 1):
            counts[side] += np.bincount(place[truth == bool(side)], minlength=BINS)
    tally = Tally(np.arange(BINS, dtype=float), counts[:1], counts[1:])
    return {
        "pixel_auroc": float(tally.auroc()[0]),
        "bad images with a mask": bads,
        "of them with a box": boxed,
        "of them with a box on the defect": hit,
    }


def one(records: Records, detector: str, model: str, folder: Path, masks: bool) -> dict[str, Any]:
    run = train(records, folder, one_class=True, detector=detector, model=model)
    test, table = run.metrics["test"], pl.read_parquet(folder / "scores.parquet")
    rows = table.filter(pl.col("split") == "test")
    goods = rows.filter(pl.col("label") == 0)["score"]
    by_defect = {}
    for (name,), part in rows.filter(pl.col("label") == BAD).group_by("defect", maintain_order=True):
        scores = np.concatenate([goods, part["score"]])
        label = np.repeat([False, True], [len(goods), len(part)])
        by_defect[name or "bad"] = {"bad": len(part), "auroc": float(Tally.of(label, scores).auroc()[0])}
    done = {
        "counts": run.metrics["data"]["counts"],
        **{name: test[name] for name in ("auroc", "auroc_ci", "escape_rate", "overkill_rate", "fpr_at_tpr")},
        "certified_overkill_rate": run.metrics["threshold"]["certified_overkill_rate"],
        "certified": run.metrics["threshold"]["certified"],
        "by_defect": dict(sorted(by_defect.items())),
        "training": run.metrics["training"],
        "seconds": run.metrics["seconds"],
    }
    if masks and detector == "patch_memory":
        done |= pixel_auroc(run, records)
    return done


def supervised(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    if not path.is_file():
        return None
    held = json.loads(path.read_text(encoding="utf-8"))
    return {"from": f"benchmarks/results/{name}", "auroc": held["test"]["auroc"]["mean"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=["tile", "elpv", "tape"])
    parser.add_argument(
        "--model", default="efficientnet_lite0"
    )  # 20 minutes on two cores; resnet50 takes four times that
    parser.add_argument("--limit", type=int, default=None, help="Images of elpv and of the tape, drawn with seed 0.")
    parser.add_argument("--runs", type=Path, default=Path("runs/one-class"))
    parser.add_argument("--out", type=Path, default=RESULTS / "one_class.json")
    given = parser.parse_args()
    wanted = given.only or ["tile", "elpv", "tape"]
    document: dict[str, Any] = {"sets": {}}
    if given.out.is_file():
        document = json.loads(given.out.read_text(encoding="utf-8"))
    given.runs.mkdir(parents=True, exist_ok=True)
    with at_work():
        for name in wanted:
            records = tiles(given.runs) if name == "tile" else load("elpv" if name == "elpv" else TAPE)
            if given.limit and name != "tile":
                records = records.with_frame(records.frame.sample(min(given.limit, len(records)), seed=0))
            result: dict[str, Any] = {
                "model": given.model,
                "images": len(records),
                "source": records.source if name != "tape" else TAPE,
            }
            for detector in ("patch_memory", "knn"):
                result[detector] = one(
                    records, detector, given.model, given.runs / f"{name}-{detector}", name != "elpv"
                )
            if name == "tape":
                folder = given.runs / "tape-both-classes"
                both = train(records, folder, model=given.model)
                result["both classes"] = {"from": f"preset quick, {given.model}, on the same images", **_auroc(both)}
                shutil.rmtree(folder)
            else:
                result["both classes"] = supervised(f"{'magnetic_tile' if name == 'tile' else 'elpv'}_best.json")
            document["sets"][name] = result
    document |= {
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
    }
    write_json(given.out, document)
    print(given.out.read_text(encoding="utf-8"))


def _auroc(run: Trained) -> dict[str, Any]:
    return {name: run.metrics["test"][name] for name in ("auroc", "auroc_ci", "n_good", "n_bad")}


if __name__ == "__main__":
    main()

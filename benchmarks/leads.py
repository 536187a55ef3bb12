"""Do leads mislead a network? Trained on `tape` as it is and with its leads merged into their surroundings, in pairs.

Leads are merged in two ways: with the true masks, on every unit alike, which answers the question; and with
`--mask-leads`, as it could be used, whose finder misses leads more often on bad units than on good ones. What it
finds is measured class by class, since leads that are left on bad units alone give the answer away.

Each seed draws its own set and trains both arms on the same images, splits and batches: ResNet-18 from random weights.
More bad images than on a line, so that the rare defects of leads can be counted at all. Every run is kept and a killed
one goes on; the summary and the figures are made from what is there.

    python benchmarks/leads.py                 # all runs that are missing, then summary and figures
    python benchmarks/leads.py --figures       # summary and figures only
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import leads_figures
import numpy as np
import polars as pl
import torch
from leads_attention import PARTS, stage_attention
from leads_page import write_page
from leads_summary import summary
from safetensors.torch import load_file, save_file

import knowngood.training.fine_tuning as finetune
from knowngood.cam.regions import best_iou, pointing_hit
from knowngood.cli.output import at_work
from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.preprocessing import find_leads
from knowngood.data.records import Records
from knowngood.files import sha256_of, whole_file, write_json
from knowngood.lookalike.generate import MANIFEST
from knowngood.lookalike.source import config_of, folder_of
from knowngood.metrics.curves import Tally
from knowngood.metrics.figures import auroc
from knowngood.models.classifier import Classifier
from knowngood.recipe.bundle import Recipe
from knowngood.workflows.runs import versions
from knowngood.workflows.train import Trained, train

RESULT = Path(__file__).parent / "results" / "leads.json"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "true_masks": {},  # the photographs themselves are changed before the training: see `merged`
    "mask_leads": {"mask_leads": True},
    "roi": {"roi": "0.12,0.04,0.88,0.96"},
}
GONE = ("empty_pocket", "device_flip")  # their part maps show leads that the picture does not
VISIBLE = 0.35  # severity from which a person sees a defect
MOST = 200  # visibly bad test images whose maps are measured


class Keeping(finetune.EpochEnd):
    """Also keeps the averaged weights of every epoch, those before training included."""

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        super().on_validation_epoch_end(trainer, module)
        kept = self.folder.parent / "epochs"
        kept.mkdir(exist_ok=True)
        state = {n: t.contiguous() for n, t in module.classifier.state_dict().items()}
        save_file(state, kept / f"{int(self.history[-1]['epoch']):02}.safetensors")


def measure(run: Trained, source: str) -> dict[str, Any]:
    """Everything that is compared, of one finished run, against the truth that the look-alike knows."""
    truth = pl.read_parquet(folder_of(config_of(source)) / MANIFEST)
    table = pl.read_parquet(run.folder / "scores.parquet").filter(pl.col("split") == "test")
    rows = table.select("image", "path", "score").join(
        truth.select("image", "true_label", "true_defect", "severity", "mask", "lead_mask", "box"), on="image"
    )
    rows = rows.drop_nulls("score").with_columns(pl.col("severity").cast(pl.Float32))
    bad, score = (rows["true_label"] == "bad").to_numpy(), rows["score"].to_numpy()
    root = folder_of(config_of(source))
    whole = pl.col("true_defect").is_in(GONE)
    shown = (pl.col("severity") >= VISIBLE) & pl.col("mask").is_not_null() & ~whole & pl.Series(bad)
    visible = rows.filter(shown).head(MOST)
    return {
        "test": {"good": int((~bad).sum()), "bad": int(bad.sum())},
        "auroc": auroc(bad, score),
        "overkill_at_tpr_0.995": float(Tally.of(bad, score).fpr_at_tpr(0.995)[0]),
        "by_defect": by_defect(rows, bad, score),
        "localisation": localisation(run.recipe, visible, root),
        "attention": through_epochs(run, visible, root),
        "epoch_kept": run.metrics["training"]["fine-tuning"]["epoch kept"],
        "history": run.metrics["history"],
        "seconds": run.metrics["seconds"],
    }


def by_defect(rows: pl.DataFrame, bad: Any, score: Any) -> dict[str, Any]:
    kinds = rows["true_defect"].to_numpy()
    found = {}
    for kind in sorted({k for k in kinds[bad] if k is not None}):
        chosen = ~bad | (kinds == kind)
        found[str(kind)] = {"bad": int((kinds == kind).sum()), "auroc": auroc(bad[chosen], score[chosen])}
    return found


def localisation(recipe: Recipe, visible: pl.DataFrame, root: Path) -> dict[str, Any]:
    """Pointing game without tolerance, and IoU of the largest region's box with the true box that fits it best."""
    hits, overlaps = [], []
    for row, one in zip(visible.iter_rows(named=True), recipe.maps(visible["path"].to_list()), strict=True):
        mask = decode(root / row["mask"]) > 127
        if not mask.any():
            continue
        hits.append(pointing_hit(one.values, mask))
        boxes = [tuple(box) for box in json.loads(row["box"])]
        overlaps.append(best_iou(one.regions[0].box if one.regions else None, boxes))
    return {"images": len(hits), "pointing": float(np.mean(hits)), "box_iou": float(np.mean(overlaps))}


def through_epochs(run: Trained, visible: pl.DataFrame, root: Path) -> list[dict[str, Any]]:
    """Mean share of leads, body, tape and rest, stage by stage, with the weights of each epoch."""
    classifier = run.recipe.inspector.members[0]
    assert isinstance(classifier, Classifier)
    kept = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    pixels = np.stack([run.recipe.fitted(decode(path)) for path in visible["path"]])
    part_maps = [decode(root / name) for name in visible["lead_mask"]]
    rows = []
    for path in sorted((run.folder / "epochs").glob("*.safetensors")):
        classifier.load_state_dict(load_file(path))
        stages = stage_attention(classifier.eval(), pixels, part_maps)
        shares = {s: {p: mean_share(v) for p, v in parts.items()} for s, parts in stages.items()}
        rows.append({"epoch": int(path.stem), "shares": shares})
    classifier.load_state_dict(kept)
    area = {name: float(np.mean([(m == value).mean() for m in part_maps])) for name, value in PARTS.items()}
    return [{"area": area, "images": len(visible)}, *rows]


def mean_share(shares: Any) -> float | None:
    """Mean over the images whose map says anything for bad; None where none does, as with random weights."""
    return None if np.isnan(shares).all() else float(np.nanmean(shares))


def merged(records: Records, source: str, folder: Path) -> Records:
    """The same set with every unit's leads filled in where its part map has them, good and bad alike."""
    root = folder_of(config_of(source))
    truth = pl.read_parquet(root / MANIFEST)
    part_of = dict(zip(truth["image"].to_list(), truth["lead_mask"].to_list(), strict=True))
    paths, digests = [], []
    for image, path in records.frame.select("image", "path").iter_rows():
        target = folder / image
        if not target.is_file():
            leads = (decode(root / part_of[image]) == PARTS["leads"]).astype(np.uint8)
            made = cv2.inpaint(decode(path), cv2.dilate(leads, np.ones((5, 5), np.uint8)), 3, cv2.INPAINT_TELEA)
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as scratch:
                scratch.write_bytes(cv2.imencode(".png", made)[1].tobytes())
        paths.append(str(target.absolute()))
        digests.append(sha256_of(target))
    return records.with_frame(records.frame.with_columns(path=pl.Series(paths), sha256=pl.Series(digests)))


def finder(source: str, most: int = 600) -> dict[str, Any]:
    """What `find_leads` finds of the leads of test units, class by class: recall, precision, units it misses."""
    root = folder_of(config_of(source))
    truth = pl.read_parquet(root / MANIFEST).filter(
        (pl.col("split") == "test") & pl.col("abnormal").is_null() & ~pl.col("true_defect").is_in(GONE).fill_null(False)
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for row in truth.head(most).iter_rows(named=True):
        leads, seen = decode(root / row["lead_mask"]) == PARTS["leads"], find_leads(decode(root / row["image"]))
        if leads.any():
            both = (leads & seen).sum()
            found.setdefault(row["true_defect"] or "good", []).append((both / leads.sum(), both / max(1, seen.sum())))
    return {
        kind: {
            "units": len(pairs),
            "recall": float(np.mean([r for r, _ in pairs])),
            "precision": float(np.mean([p for _, p in pairs])),
            "missed": float(np.mean([r < 0.5 for r, _ in pairs])),
        }
        for kind, pairs in sorted(found.items())
    }


def one(given: argparse.Namespace, arm: str, seed: int) -> None:
    """Trains and measures one arm with one seed, unless that is done."""
    folder = given.runs / f"{arm}-{seed}"
    done = given.runs / f"{arm}-{seed}.json"
    if done.is_file():
        return
    source = f"tape:train={given.train},test={given.test},bad_rate={given.bad_rate},seed={seed}"
    options: dict[str, Any] = {
        "model": "resnet18",
        "preset": "standard",
        "pretrained": False,
        "epochs": given.epochs,
        "image_size": given.image_size,
        "learning_rate": 1e-3,
        "val": 0.05,
        "calibration": 0.1,
        "patience": given.epochs + 1,
        "seed": seed,
    }
    records = load(source)
    if arm == "true_masks":
        records = merged(records, source, given.runs / f"photographs-{seed}")
    run = train(records, folder, **options, **ARMS[arm])
    facts = {"arm": arm, "seed": seed, "source": source, "options": options | ARMS[arm], "epochs": given.epochs}
    extra = {"finder": finder(source)} if arm == "mask_leads" else {}
    write_json(done, facts | measure(run, source) | extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=2500)
    parser.add_argument("--test", type=int, default=800)
    parser.add_argument("--bad-rate", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="plain,true_masks,mask_leads", help="of " + ", ".join(ARMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/leads"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--figures", action="store_true", help="train nothing")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    finetune.EpochEnd = Keeping  # type: ignore[misc]
    if not given.figures:
        with at_work():
            for seed in range(given.seeds):
                for arm in given.arms.split(","):
                    one(given, arm, seed)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(given.runs.glob("*-*.json"))]
    if not runs and given.out.is_file():  # drawn again from what is committed
        document = json.loads(given.out.read_text(encoding="utf-8"))
    else:
        document = {
            "command": "python " + shlex.join(sys.argv),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": torch.cuda.is_available()},
            "versions": versions(),
            "summary": summary(runs),
            "runs": runs,
        }
        write_json(given.out, document)
    leads_figures.draw(document, given.runs, given.images)
    if given.out == RESULT:  # a trial with small numbers leaves the page alone
        write_page(document, IMAGES.parent / "explanation" / "leads.md", IMAGES)
    print(json.dumps(document["summary"], indent=1))


if __name__ == "__main__":
    main()

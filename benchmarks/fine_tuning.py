"""Which way of fine-tuning finds the most: arms x seeds on validation folds of three sets; no test photograph is used.

The solar cells (elpv), the magnetic tiles (split by part; read where they are) and the look-alike. The photographs
that `knowngood train` would test on, or a quarter of the parts of the tiles, are left out before the folds are made;
seed k trains on three folds of four and validates on fold k. Every trial runs to its last epoch and leaves a file of
its own in --runs, so that several processes of one thread each can share the list; --summary joins them.

    python benchmarks/fine_tuning.py elpv:cells:0 tiles:cells:0 tape:cells:0 ...
    python benchmarks/fine_tuning.py elpv:frozen:0 ...    # the heads of a frozen network on the same folds
    python benchmarks/fine_tuning.py --summary
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from magnetic_tile import DATA, manifest
from sklearn.model_selection import StratifiedGroupKFold

from knowngood.cam.maps import cell_layer, over_picture
from knowngood.cam.regions import pointing_hit
from knowngood.cli.output import at_work
from knowngood.data.images import read_mask
from knowngood.data.loading import loaded
from knowngood.data.pixels import store_pixels
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import BAD, Records
from knowngood.data.splits import kfold, kfold_up_to, split
from knowngood.data.units import groups_of, with_units
from knowngood.files import write_json
from knowngood.metrics.figures import auroc
from knowngood.models.batching import over_batches
from knowngood.models.classifier import (
    TURNS,
    Classifier,
    cells_beside_svm,
    cells_config,
    input_size,
    network_for,
    turned,
)
from knowngood.models.weights.search import find
from knowngood.training.cell_head import Compression, fit_cell_head, fit_frozen_heads
from knowngood.training.config import Freeze, TrainConfig
from knowngood.training.epochs import kept_epoch
from knowngood.training.fine_tuning import LINEAR_PLAN, Plan, fine_tune
from knowngood.training.fit import start_head
from knowngood.training.targets import Targets, kind_numbers, kinds_of, masks_of, targets_of

RESULT = Path(__file__).parent / "results" / "fine_tuning.json"
FOLDS, NEAR = 4, 15


@dataclass(frozen=True)
class Set:
    """A set of photographs: where from, how large, what is done to them in training, how long."""

    size: int
    augment: str
    epochs: int


SETS = {
    "elpv": Set(160, "strong", 8),
    "tiles": Set(160, "rotate+shift+zoom+flip+brightness+contrast", 12),
    "tape": Set(128, "standard", 10),
}


@dataclass(frozen=True)
class Arm:
    """One way of fine-tuning."""

    plan: Plan = field(default_factory=Plan)
    head: str = "cells"
    stages: tuple[int, ...] = (3, 4)
    sharpness: float = 2.0
    hard_labels: bool = False
    epochs: float = 1.0  # times the set's
    freeze: Freeze = "none"
    start: str = "zero"  # of a cell head; "statistics": its norms know the set's; "probe": it is fitted on frozen maps
    masks: int = 0  # of bad training photographs, at most
    kinds: bool = False  # whether each kind of defect has logits of its own


BATCH = Plan(keep_statistics=False)  # batch norms in training mode
ARMS = {
    "linear": Arm(LINEAR_PLAN, head="linear"),
    "cells": Arm(BATCH),
    "cells-fast": Arm(replace(BATCH, rate=3e-4)),
    "cells-sharp": Arm(BATCH, sharpness=5.0),
    "cells-fine": Arm(BATCH, stages=(2, 3, 4)),
    "cells-own-statistics": Arm(Plan()),
    "cells-fine-own-statistics": Arm(Plan(), stages=(2, 3, 4)),
    "cells-finest-own-statistics": Arm(Plan(), stages=(1, 2, 3, 4)),
    "cells-fast-own-statistics": Arm(Plan(rate=3e-4)),
    "cells-statistics": Arm(Plan(), start="statistics"),
    "cells-probe": Arm(Plan(), start="probe"),
    "cells-frozen-body": Arm(Plan(), freeze="all-but-head"),
    "cells-last-stage": Arm(Plan(), freeze="all-but-last-stage"),
    "cells-sgd": Arm(Plan(optimizer="sgd", rate=1e-2, weight_decay=5e-4)),
    "cells-long": Arm(Plan(), epochs=2.0),
    "cells-generalised": Arm(Plan(loss="generalised")),
    "cells-hard-labels": Arm(Plan(), hard_labels=True),
    "cells-kinds": Arm(kinds=True),
    "cells-masks-4": Arm(masks=4),
    "cells-masks-16": Arm(masks=16),
    "cells-masks-all": Arm(masks=10_000),
}


def records_of(name: str, runs: Path) -> Records:
    """Returns the photographs of a set that may be used: the test photographs are gone."""
    if name == "tiles":
        records = with_units(loaded(manifest(DATA, runs / "tile.csv")), None)
        labels, parts = records.frame["label"].to_numpy(), records.frame["lot"].to_numpy()
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        kept, _ = next(iter(folds.split(labels, labels, parts)))
        return records.with_frame(records.frame[np.sort(kept)])
    if name == "elpv":
        records = with_units(loaded("elpv"), None)
        divided = split(records, TrainConfig(), seed=0, groups=groups_of(records)).usable()
        return divided.with_frame(divided.frame.filter(divided.frame["split"] != "test"))
    records = with_units(loaded("tape:train=1500,test=1000,bad_rate=0.2,seed=0"), None)
    return records.with_frame(records.frame.filter(records.frame["split"] != "test"))


def mask_path(row: dict[str, Any]) -> str | Path | None:
    """Returns the file of a photograph's mask, whether it is there or not."""
    return DATA / "masks" / f"{Path(row['path']).stem}.png" if "magnetic-tile" in row["path"] else row["mask"]


def mask_of(row: dict[str, Any], shape: tuple[int, int]) -> np.ndarray | None:
    """Returns where the defect is, (H, W) bool; None where nobody knows."""
    path = mask_path(row)
    if path is None or not Path(path).is_file():
        return None
    mask = read_mask(str(path), shape)
    return mask if mask.any() else None


def found_on(classifier: Classifier, maps: np.ndarray, records: Records, rows: np.ndarray) -> dict[str, Any]:
    """Returns how often the hottest place of a bad photograph lies on its defect, in its own pixels."""
    config, hits, near = classifier.config, [], []
    layer = cell_layer(classifier)
    for row, heat in zip(rows, maps, strict=True):
        facts = records.frame.row(int(row), named=True)
        mask = mask_of(facts, (facts["height"], facts["width"])) if facts["label"] == BAD else None
        if mask is None:
            continue
        placed = over_picture(classifier, {layer: torch.from_numpy(heat)[None]}, (config.height, config.width))[layer]
        large = torch.nn.functional.interpolate(placed[:, None], mask.shape, mode="bilinear")[0, 0].numpy()
        hits.append(pointing_hit(large, mask))
        near.append(pointing_hit(large, mask, tolerance=NEAR))
    return {"photographs": len(hits), "on": float(np.mean(hits)), "within 15 px": float(np.mean(near))} if hits else {}


def by_view(classifier: Classifier, pixels: np.ndarray, rows: np.ndarray, views: int) -> np.ndarray:
    """Returns cell scores (N, views, h, w), turned back; of a linear head raw scores (N, views)."""

    def function(images: torch.Tensor) -> torch.Tensor:
        made = []
        with torch.autocast("cpu", torch.bfloat16):  # as validation in training
            for turn in TURNS[:views]:
                view = turned(images, turn)
                if classifier.cells is None:
                    made.append(classifier(view))
                else:
                    made.append(turned(classifier.scored(view).cell_scores, turn, back=True))
        return torch.stack(made, dim=1)

    return over_batches(classifier, function, pixels, rows, f"{views} views")


def pooled(classifier: Classifier, seen: np.ndarray) -> np.ndarray:
    """Returns raw scores (N,) of cell scores (N, h, w), or those of a linear head as they are."""
    return seen if classifier.cells is None else classifier.cells.pooled(torch.from_numpy(seen)).numpy()


def trial(name: str, arm_name: str, seed: int, runs: Path) -> dict[str, Any]:
    """Runs one trial to its end."""
    started = time.perf_counter()
    kind, arm = SETS[name], ARMS[arm_name]
    records = records_of(name, runs)
    folds = kfold(records, FOLDS, 0, groups=groups_of(records))
    rows = np.flatnonzero((folds >= 0) & (folds != seed % FOLDS)), np.flatnonzero(folds == seed % FOLDS)
    height, width = input_size(list(records.frame.select("height", "width").iter_rows()), kind.size)
    weights = find("resnet50", None)
    base = network_for("resnet50", weights, height, width, 1)
    kinds = kinds_of(records, rows[0]) if arm.kinds else ("bad",)
    config = cells_config(base, arm.stages, kinds).model_copy(update={"sharpness": arm.sharpness})
    classifier = Classifier(config if arm.head == "cells" else base)
    classifier.load_trunk(weights)
    pixels = store_pixels(records, runs / "pixels", height, width, 1).pixels
    targets = targets_of(records)
    if arm.kinds:
        targets = replace(targets, kind=kind_numbers(records, kinds))
    bad = targets.bad >= 0.5
    if arm.hard_labels:
        targets = Targets(bad.astype(np.float32), targets.weight)
    if arm.masks:
        targets = replace(targets, masks=marked(records, rows[0], arm.masks, seed, (height, width)))
    if arm.head == "linear":
        start_head(classifier, pixels, rows[0], bad[rows[0]])
    elif arm.start != "zero":
        started_cells(classifier, pixels, records, targets, rows[0], runs / f"{name}-{arm_name}-{seed}.f16", arm.start)
    start = {key: value.clone() for key, value in classifier.state_dict().items()}
    epochs = round(kind.epochs * arm.epochs)
    settings = TrainConfig(
        model="resnet50",
        preset="standard",
        epochs=epochs,
        augment=kind.augment,
        patience=epochs + 1,
        freeze=arm.freeze,
        seed=seed,
    )
    folder = runs / f"{name}-{arm_name}-{seed}"
    history = fine_tune(classifier, settings, pixels, targets, rows, folder, plan=arm.plan)
    truth = bad[rows[1]]
    result: dict[str, Any] = {
        "set": name,
        "arm": arm_name,
        "seed": seed,
        "photographs": [len(part) for part in rows],
        "size": [height, width],
        "epochs": epochs,
        "settings": dataclasses.asdict(arm),
        "history": history,
        "last epoch": history[-1]["val_auroc"],
        "best epoch": max(row["val_auroc"] for row in history),
        "epoch kept": kept_epoch(history)["val_auroc"],
    }
    views = 8 if height == width else 4
    seen = by_view(classifier, pixels, rows[1], views)
    scores = {}
    for count in (1, 4, 8)[: 3 if views == 8 else 2]:
        scores[str(count)] = pooled(classifier, seen[:, :count].mean(1))
        result[f"{count} views"] = auroc(truth, scores[str(count)])
        each = np.stack([pooled(classifier, seen[:, view]) for view in range(count)]).mean(0)
        result[f"{count} views, scores averaged"] = auroc(truth, each)
        if arm.head == "cells":
            result[f"places, {count} views"] = found_on(classifier, seen[:, :count].mean(1), records, rows[1])
    end = {key: value.clone() for key, value in classifier.state_dict().items()}
    for share in (0.5, 0.75):  # WiSE: the trunk between its start and its end, the head as it is
        between = {
            key: torch.lerp(start[key], value, share)
            if value.is_floating_point() and not key.startswith("cells.")
            else value
            for key, value in end.items()
        }
        classifier.load_state_dict(between)
        made = pooled(classifier, by_view(classifier, pixels, rows[1], 1)[:, 0])
        result[f"trunk {share} of the way, 1 view"] = auroc(truth, made)
    result["seconds"] = round(time.perf_counter() - started)
    result["scores"] = {key: np.round(made.astype(float), 4).tolist() for key, made in scores.items()}
    result["images"] = records.frame["image"][rows[1]].to_list()
    write_json(folder / "result.json", result)
    for heavy in ("last.ckpt", "best.safetensors"):
        (folder / heavy).unlink(missing_ok=True)
    return result


def started_cells(
    classifier: Classifier,
    pixels: np.ndarray,
    records: Records,
    targets: Targets,
    rows: np.ndarray,
    place: Path,
    start: str,
) -> None:
    """Gives a cell head the set's statistics, and what was learned on frozen maps with them."""
    classifier.eval().to(memory_format=torch.channels_last)
    compression = Compression(classifier, pixels, rows, 0)
    if start == "probe":
        groups = groups_of(records)[rows]
        folds = kfold_up_to(records.with_frame(records.frame[rows]), FOLDS, 0, groups=groups)
        fit_cell_head(compression, compression.maps(pixels, rows, place), targets, rows, folds, 0)
        place.unlink()


def marked(records: Records, rows: np.ndarray, most: int, seed: int, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Returns the masks of some bad photographs at the network's size."""
    facts = records.frame.select("path", "mask", "height", "width", "label").rows(named=True)
    bads = [int(row) for row in rows if facts[int(row)]["label"] == BAD]
    chosen: dict[int, str] = {}
    for row in np.random.default_rng([seed, 31]).permutation(bads).tolist():
        path = mask_path(facts[row])
        if len(chosen) < most and path is not None and Path(path).is_file():
            chosen[row] = str(path)
    given = [chosen.get(row) for row in range(len(records))]
    drawn = records.with_frame(records.frame.with_columns(mask=pl.Series(given, dtype=pl.String)))
    return dict(masks_of(drawn, rows, *size, Preprocessing()))


def frozen_trial(name: str, seed: int, runs: Path) -> dict[str, Any]:
    """Fits the heads of a frozen network at its own size: SVM, cells, and both; validates them on one fold."""
    started = time.perf_counter()
    records = records_of(name, runs)
    groups = groups_of(records)
    folds = kfold(records, FOLDS, 0, groups=groups)
    rows, held = np.flatnonzero((folds >= 0) & (folds != seed % FOLDS)), np.flatnonzero(folds == seed % FOLDS)
    height, width = input_size(list(records.frame.select("height", "width").iter_rows()), 224)
    weights = find("resnet50", None)
    kinds = kinds_of(records, rows)
    classifier = Classifier(cells_beside_svm(network_for("resnet50", weights, height, width, 1), kinds))
    classifier.load_trunk(weights)
    pixels = store_pixels(records, runs / "pixels", height, width, 1).pixels
    targets = replace(targets_of(records), kind=kind_numbers(records, kinds))
    fit = fit_frozen_heads(classifier, pixels, records, groups, rows, targets, runs / f"{name}-{seed}.f16", seed)
    heat = over_batches(classifier, lambda b: classifier.scored(b).cell_scores, pixels, held, "cells")
    of_svm = fit.svm.head(torch.from_numpy(fit.features[held])).numpy()
    of_cells = pooled(classifier, heat)
    truth = targets.bad[held] >= 0.5
    return {
        "set": name,
        "arm": "frozen",
        "seed": seed,
        "photographs": [len(rows), len(held)],
        "size": [height, width],
        "kinds": list(kinds),
        "SVM": auroc(truth, of_svm),
        "cells": auroc(truth, of_cells),
        "both": auroc(truth, fit.shares[0] * of_svm + fit.shares[1] * of_cells),
        "share of the cells": fit.table,
        "places, 1 views": found_on(classifier, heat, records, held),
        "seconds": round(time.perf_counter() - started),
        "scores": {"both": np.round(fit.shares[0] * of_svm + fit.shares[1] * of_cells, 4).tolist()},
        "images": records.frame["image"][held].to_list(),
    }


FIGURES = (
    "SVM",
    "cells",
    "both",
    "last epoch",
    "best epoch",
    "epoch kept",
    "1 views",
    "4 views",
    "8 views",
    "trunk 0.5 of the way, 1 view",
    "seconds",
)


def rows_of(runs: Path) -> Iterator[dict[str, Any]]:
    """Yields what the finished trials found, without their scores."""
    for path in sorted(runs.glob("*/result.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        yield {key: value for key, value in held.items() if key not in ("scores", "images", "history")}


def to_run(asked: list[str], runs: Path) -> Iterator[tuple[str, str, int]]:
    """Yields SET, ARM and SEED of the trials that have no result yet."""
    for one in asked:
        name, arm, seed = one.split(":")
        if not (runs / f"{name}-{arm}-{seed}" / "result.json").is_file():
            yield name, arm, int(seed)


def names_of(images: Iterable[str]) -> list[str]:
    """Returns names without the folder that the set lies in, which is another one in another clone."""
    return ["/".join(Path(image).parts[-2:]) for image in images]


def together(runs: Path) -> Iterator[dict[str, Any]]:
    """Yields the AUC of frozen heads, of each fine-tuned arm on the same fold, and of both, each in its own spread."""
    for path in sorted(runs.glob("*-frozen-*/result.json")):
        frozen = json.loads(path.read_text(encoding="utf-8"))
        if "scores" not in frozen:
            continue
        name, seed = frozen["set"], frozen["seed"]
        records = records_of(name, runs)
        bad = dict(zip(names_of(records.frame["image"]), (targets_of(records).bad >= 0.5).tolist(), strict=True))
        truth = [bad[image] for image in names_of(frozen["images"])]
        ours = np.array(frozen["scores"]["both"])
        for other in sorted(runs.glob(f"{name}-*-{seed}/result.json")):
            tuned = json.loads(other.read_text(encoding="utf-8"))
            if tuned["arm"] == "frozen" or names_of(tuned["images"]) != names_of(frozen["images"]):
                continue
            theirs = np.array(tuned["scores"]["1"])
            both = ours / ours.std() + theirs / theirs.std()
            aucs = {"frozen": auroc(truth, ours), "tuned": auroc(truth, theirs), "together": auroc(truth, both)}
            yield {"set": name, "arm": tuned["arm"], "seed": seed} | aucs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", help="SET:ARM:SEED")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine-tuning"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="write results/fine_tuning.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with at_work():
        for name, arm, seed in to_run(given.trials, given.runs):
            if arm == "frozen":
                made = frozen_trial(name, seed, given.runs)
                write_json(given.runs / f"{name}-{arm}-{seed}" / "result.json", made)
            else:
                made = trial(name, arm, seed, given.runs)
            print(
                f"{name}:{arm}:{seed}",
                {key: made.get(key) for key in FIGURES},
                made.get("places, 1 views"),
                made.get("places, 4 views"),
                flush=True,
            )
    if given.summary:
        found = list(rows_of(given.runs))
        command = "python benchmarks/fine_tuning.py SET:ARM:SEED for each row, then --summary"
        write_json(
            RESULT,
            {
                "what": __doc__.splitlines()[0],
                "command": command,
                "rows": found,
                "together": list(together(given.runs)),
            },
        )
        for row in found:
            print(row["set"], row["arm"], row["seed"], {key: row.get(key) for key in FIGURES})


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

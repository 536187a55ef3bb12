"""How much of what is planted in the look-alike an audit finds, and whether correcting it helps.

6,000 parts (SOD) with planted label noise, faint defects first, and 0.2 % abnormal pictures. Abnormal pictures: how
many each detector flags. Label noise: precision and recall of the suspects by features, rule and severity, and as a
curve over how many images a person looks at. Then the removal trial, judged by the true labels. The settings were
chosen on another set of parts (seed 1); nothing of what is reported here was looked at before.

    python benchmarks/audit_tape.py                       # about an hour on two cores, most of it the removal trial
    python benchmarks/audit_tape.py --trial-seeds 0       # without it
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score

from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.splits import kfold_up_to
from knowngood.data.units import groups_of
from knowngood.experiments.audit import network_scores
from knowngood.experiments.configs import RemovalConfig
from knowngood.experiments.removal import FOLDS, bad_probabilities, removal_trial
from knowngood.files import write_json
from knowngood.lookalike.config import TapeConfig
from knowngood.models.features import Features, features
from knowngood.outliers.detectors import DETECTORS
from knowngood.outliers.label_issues import find_suspects, out_of_fold_scores
from knowngood.outliers.neighbours import Neighbours
from knowngood.training.config import TrainConfig
from knowngood.workflows.runs import versions

RESULT = Path(__file__).parent / "results" / "audit_tape.json"
BINS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.01)
LOOKED_AT = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # images that a person looks at, in numbers planted


def truth_of(records: Records) -> pl.DataFrame:
    """Returns what the manifest knows of the records, in their order."""
    known = pl.read_parquet(records.root / "manifest.parquet").select("image", "true_label", "severity", "abnormal")
    joined = records.frame.select("image", "label").join(known, on="image", how="left", maintain_order="left")
    return joined.with_columns(true=(pl.col("true_label") == "bad").cast(pl.UInt8))


def outliers(rows: np.ndarray, truth: pl.DataFrame, names: list[str]) -> dict[str, Any]:
    """Flags and order of each detector against the abnormal pictures."""
    abnormal = truth["abnormal"].is_not_null().to_numpy()
    kinds = truth["abnormal"].to_numpy()
    flags, scores, result = {}, {}, {}
    for name in names:
        start = time.perf_counter()
        detector = DETECTORS.get(name)(seed=0)
        scores[name] = detector.fit_score(rows)
        flags[name] = scores[name] > detector.threshold_
        result[name] = {"seconds": round(time.perf_counter() - start, 1)}
    flags["ocsvm and iforest"] = flags["ocsvm"] & flags["iforest"]
    scores["ocsvm and iforest"] = sum(np.argsort(np.argsort(scores[n])) for n in ("ocsvm", "iforest"))
    for name, flagged in flags.items():
        top = np.argsort(-scores[name], kind="stable")[: abnormal.sum()]
        result.setdefault(name, {}).update(
            flagged=int(flagged.sum()),
            precision=share(abnormal[flagged]),
            recall=share(flagged[abnormal]),
            recall_by_kind={str(k): share(flagged[kinds == k]) for k in sorted(set(kinds[abnormal]))},
            precision_at_number_planted=share(abnormal[top]),
            average_precision=round(float(average_precision_score(abnormal, scores[name])), 3),
        )
    return {"planted": int(abnormal.sum()), "by_method": result}


def share(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 3) if len(values) else None


def suspects(score: np.ndarray, truth: pl.DataFrame) -> dict[str, Any]:
    """What a score out of sample says of the planted label noise: both sides, and bad hidden in good alone."""
    label, true, severity = (truth[name].to_numpy() for name in ("label", "true", "severity"))
    wrong = label != true
    result: dict[str, Any] = {
        "auc_given": round(float(roc_auc_score(label, score)), 4),
        "auc_true": round(float(roc_auc_score(true, score)), 4),
    }
    for side, asked in (("both sides", np.ones(len(label), bool)), ("hidden in good", label == 0)):
        planted = wrong & asked
        doubt = np.where(asked, np.where(label == 1, 1 - score, score), -1.0)
        order, count = np.argsort(-doubt, kind="stable"), int(planted.sum())
        found: dict[str, Any] = {"planted": count, "curve": []}
        for times in LOOKED_AT:
            top = order[: round(times * count)]
            row = {
                "looked_at": len(top),
                "precision": share(planted[top]),
                "recall": share(np.isin(np.flatnonzero(planted), top)),
            }
            found["curve"].append(row)
        found["precision_at_number_planted"] = share(planted[order[:count]])
        for rule in ("confident", "likelier"):
            doubted = find_suspects(score, label, one_sided=side != "both sides", rule=rule).suspect  # type: ignore[arg-type]
            found[rule] = {
                "suspects": int(doubted.sum()),
                "precision": share(planted[doubted]),
                "recall": share(doubted[planted]),
                "recall_by_severity": by_severity(doubted, planted, severity),
            }
        result[side] = found
    return result


def by_severity(doubted: np.ndarray, planted: np.ndarray, severity: np.ndarray) -> dict[str, Any]:
    rows = {}
    for low, high in pairwise(BINS):
        here = planted & (severity >= low) & (severity < high)
        rows[f"{low} to {min(high, 1.0)}"] = {"planted": int(here.sum()), "recall": share(doubted[here])}
    return rows


def methods(records: Records, deep: Features, folds: np.ndarray) -> dict[str, np.ndarray]:
    """Scores out of sample by features: the penultimate, the stages (what `audit` uses), and two candidates."""
    label = records.frame["label"].to_numpy()
    rest = less_neighbours(deep.stages)
    made = {
        "penultimate": out_of_fold_scores(deep.rows, label, folds, 0).scores,
        "stages": bad_probabilities(records, deep, folds, 0),
        "stages less neighbours": out_of_fold_scores(rest, label, folds, 0).scores,
    }
    both = [logit(np.clip(made[name], 1e-9, 1 - 1e-9)) for name in ("stages", "stages less neighbours")]
    return made | {"both of these": expit(np.mean(both, axis=0))}


def less_neighbours(rows: np.ndarray, k: int = 30) -> np.ndarray:
    """Takes the mean of the k nearest images away: product, marking and light go, what is individual stays."""
    standard = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6)
    near = Neighbours(standard).nearest(standard, k, owner=np.arange(len(rows)))[1]
    return np.stack([row - standard[others].mean(axis=0) for row, others in zip(standard, near, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", type=float, default=TapeConfig().difficulty)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.01, 0.03])
    parser.add_argument("--backbones", nargs="+", default=["resnet50"])
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--detectors", nargs="+", default=["ocsvm", "iforest", "knn", "mahalanobis"])
    parser.add_argument("--fine-tune", type=int, default=0, help="epochs; also ask three networks, fine-tuned")
    parser.add_argument("--fine-tune-size", type=int, default=96)
    parser.add_argument("--trial-seeds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path("runs/audit_tape"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    document: dict[str, Any] = {
        "what": __doc__.splitlines()[0],
        "command": "python " + shlex.join(sys.argv),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
        "settings": [],
    }
    for noise in given.noise:
        word = f"tape:train={given.train},test=0,seed={given.seed},difficulty={given.difficulty},masks=false"
        word += f",label_noise={noise}"
        records = load(word).usable()
        truth = truth_of(records)
        setting: dict[str, Any] = {"data": word, "images": len(records), "label_noise": noise, "suspects": {}}
        folds = kfold_up_to(records, FOLDS, 0, groups=groups_of(records))
        for backbone in given.backbones:
            deep = features(records, backbone, image_size=given.image_size, stages=True)
            if noise == given.noise[0] and backbone == given.backbones[0]:  # pictures are the same whatever the noise
                document["outliers"] = outliers(deep.rows, truth, given.detectors)
            found = methods(records, deep, folds)
            if given.fine_tune:
                config = TrainConfig(
                    model=backbone, preset="standard", epochs=given.fine_tune, image_size=given.fine_tune_size
                )
                found["fine-tuned"] = network_scores(records, groups_of(records), config, given.scratch)
            for name, score in found.items():
                setting["suspects"][f"{backbone}, {name}"] = suspects(score, truth)
                print(noise, backbone, name, setting["suspects"][f"{backbone}, {name}"]["hidden in good"], flush=True)
        if given.trial_seeds:
            trial = removal_trial(
                records,
                given.scratch / f"{noise}",
                RemovalConfig(seeds=given.trial_seeds),
                model=given.backbones[0],
                image_size=given.image_size,
                one_sided=True,
                truth=dict(truth.select("image", "true").iter_rows()),
            )
            setting["trial"] = {
                name: trial.document[name] for name in ("seeds", "one_sided", "arms", "effects", "notes")
            }
            print(*(effect["sentence"] for effect in trial.document["effects"]), sep="\n", flush=True)
        document["settings"].append(setting)
        write_json(given.out, document)


if __name__ == "__main__":
    main()

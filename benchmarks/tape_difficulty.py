"""How hard the look-alike is: ResNet-18 from random weights, a linear model on raw pixels, and what drift costs.

Run it as `python benchmarks/tape_difficulty.py [--train 6000 --test 2000 --epochs 12]`; about an hour and a half on
two cores, half an hour with `--train 12000 --epochs 8 --image-size 128`. AUC is against the true labels; training
sees the noisy ones. The drifted test set holds the same units as the first one, shot in a later batch.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from knowngood.files import write_json
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import generate
from knowngood.recipe.predicting import predict
from knowngood.training.config import TrainConfig
from knowngood.workflows.train import train

RESULT = Path(__file__).parent / "results" / "tape_difficulty.json"
BINS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.01)


def truth(folder: Path, split: str) -> pl.DataFrame:
    """The manifest's rows of one split."""
    return pl.read_parquet(folder / "manifest.parquet").filter(pl.col("split") == split)


def linear_on_pixels(folder: Path) -> float:
    """AUC of logistic regression on pictures of 32 x 32 pixels."""

    def pixels(rows: pl.DataFrame) -> np.ndarray:
        images = (cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in rows["image"])
        return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).ravel() for image in images])

    first, second = truth(folder, "train"), truth(folder, "test")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=400, class_weight="balanced"))
    model.fit(pixels(first).astype(float), (first["label"] == "bad").to_numpy())
    scores = model.decision_function(pixels(second).astype(float))
    return float(roc_auc_score((second["true_label"] == "bad").to_numpy(), scores))


def scored(recipe: Path, folder: Path) -> tuple[np.ndarray, pl.DataFrame]:
    """Defect scores of the test pictures of a set, and their rows of the manifest."""
    rows = truth(folder, "test")
    table = predict(recipe, [folder / name for name in rows["image"]])
    by_name = {Path(name).name: score for name, score in zip(table["image"], table["defect_score"], strict=True)}
    return np.array([by_name[Path(name).name] for name in rows["image"]], float), rows


def judged(scores: np.ndarray, rows: pl.DataFrame) -> dict[str, Any]:
    """AUC against true and given labels, by defect and by severity."""
    bad = (rows["true_label"] == "bad").to_numpy()
    good_scores = scores[~bad]

    def against_good(chosen: np.ndarray) -> dict[str, Any]:
        found = scores[chosen]
        labels = np.r_[np.zeros(len(good_scores)), np.ones(len(found))]
        auc = roc_auc_score(labels, np.r_[good_scores, found]) if len(found) else None
        return {"bad": len(found), "AUC": None if auc is None else round(float(auc), 4)}

    kinds = sorted({kind for kind in rows["true_defect"] if kind})
    of, severity = rows["true_defect"].fill_null("").to_numpy(), rows["severity"].to_numpy()
    return {
        "AUC against true labels": round(float(roc_auc_score(bad, scores)), 4),
        "AUC against given labels": round(float(roc_auc_score((rows["label"] == "bad").to_numpy(), scores)), 4),
        "by defect": {kind: against_good(bad & (of == kind)) for kind in kinds},
        "by severity": {
            f"{low} to {min(high, 1.0)}": against_good(bad & (severity >= low) & (severity < high) & (severity > 0))
            for low, high in pairwise(BINS)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--difficulty", type=float, default=TapeConfig().difficulty)
    parser.add_argument("--drift", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps sets and run here; a killed training goes on")
    parser.add_argument("--result", type=Path, default=RESULT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.folder or Path(temporary)
        config = TapeConfig(train=chosen.train, test=chosen.test, seed=chosen.seed, difficulty=chosen.difficulty)
        later = config.model_copy(update={"train": 0, "drift": chosen.drift})
        for name, what in (("first", config), ("later", later)):
            if not (place / name / "tape.json").exists():
                generate(place / name, what, workers=2)
        document: dict[str, Any] = {
            "what": __doc__.splitlines()[0],
            "command": "python " + shlex.join(sys.argv),
            "config": config.model_dump(mode="json"),
            "model": f"{chosen.model}, random weights, {chosen.epochs} epochs, {chosen.image_size} px",
            "linear model on raw pixels, AUC": round(linear_on_pixels(place / "first"), 4),
        }
        print(document, flush=True)
        options = TrainConfig(
            model=chosen.model, preset="standard", epochs=chosen.epochs, pretrained=False, image_size=chosen.image_size,
            seed=chosen.seed, learning_rate=1e-3, patience=chosen.epochs, val=0.05, calibration=0.05,
        )  # fmt: skip
        run = train(place / "first", place / "run", options)
        document["first batch"] = judged(*scored(run.folder / "recipe", place / "first"))
        document["later batch"] = judged(*scored(run.folder / "recipe", place / "later"))
        document["seconds of training"] = run.metrics["seconds"]["total"]
    print(document)
    write_json(chosen.result, document)


if __name__ == "__main__":
    main()

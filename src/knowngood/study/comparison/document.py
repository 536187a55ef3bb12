"""A comparison as numbers: one JSON document that the page is drawn from, and one table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from knowngood.decide.compare import auroc_covariance
from knowngood.decide.curves import roc_curve
from knowngood.decide.over_seeds import over_seeds
from knowngood.study.comparison.pairs import Pair, against, sentence
from knowngood.study.comparison.rows import Outcome, Row

_CURVE_FROM = 0.8  # TPR from which the ROC curve is kept, for the figure
_NAMED = 3  # rows that the verdict names at most
ONE_SEED = "bootstrap over the test images"
SEEDS = "DeLong over the test images, and the spread over seeds"


def describe(rows: Sequence[Row], pairs: Sequence[Pair], confidence: float) -> dict[str, Any]:
    """Returns what was found: rows with the highest AUC first, all pairs, and sentences on those with the best row.

    Args:
        rows: With the same seeds.
        pairs: All of them, from `compare_rows`.
        confidence: Of intervals; differences are real where p is below 1 - confidence.
    """
    told = sorted((_row(row, confidence) for row in rows), key=lambda row: -row["auroc"])
    level = 1 - confidence
    names = names_of(rows)
    by_second = {pair.second: pair for pair in against(told[0]["key"], pairs)}
    said = []
    for row in told[1:]:
        pair = by_second[row["key"]]
        row["auroc_p_against_best"], row["accuracy_p_against_best"] = pair.auroc_p, pair.accuracy_p
        said.append(sentence(pair, names, level))
    for row in told:
        row["name"] = names[row["key"]]
    return {
        "best": told[0]["key"],
        "verdict": _verdict(told, names, level),
        "sentences": said,
        "rows": told,
        "pairs": {
            "test_of_auroc": "DeLong's test, paired by image",
            "test_of_accuracy": "McNemar's test, paired by image; units count as bad from score 0.5",
            "over_seeds": "mean difference, with the error of the images (as if shared by all seeds) and the spread",
            "correction": f"Holm over {len(pairs)} pairs, AUC and accuracy apart",
            "level": round(level, 6),
            "all": [pair.to_dict() for pair in pairs],
        },
    }


def names_of(rows: Sequence[Row]) -> dict[str, str]:
    """Returns key to name: the model, and in brackets only what differs between the rows."""
    networks = [row for row in rows if row.kind == "network"]
    parts = {row.key: (row.variant, _freezing(row.freeze), f"balance {row.balance}") for row in networks}
    differs = [len({given[place] for given in parts.values()}) > 1 for place in range(3)]
    names = {row.key: f"{row.model} on {row.variant}" for row in rows if row.kind == "conventional"}
    for row in networks:
        own = [part for part, wanted in zip(parts[row.key], differs, strict=True) if wanted]
        names[row.key] = f"{row.model} ({', '.join(own)})" if own else row.model
    return names


def as_table(document: dict[str, Any]) -> pl.DataFrame:
    """Returns one row a line of the comparison, the highest AUC first."""
    lines = []
    for row in document["rows"]:
        line = {
            name: row[name]
            for name in ("key", "kind", "model", "variant", "freeze", "balance", "weights", "pretrained")
        }
        line |= {"seeds": len(row["seeds"]), "train_accuracy": row["train_accuracy"], "test_accuracy": row["accuracy"]}
        line |= {"auroc": row["auroc"], "auroc_low": row["auroc_ci"][0], "auroc_high": row["auroc_ci"][1]}
        line |= {f"fpr_at_tpr_{tpr}": fpr for tpr, fpr in row["fpr_at_tpr"].items()}
        line |= {
            "parameters_m": _divided(row["parameters"], 1e6),
            "gflops": _divided(row["flops"], 1e9),
            "images_per_second": row["images_per_second"],
            "minutes": row["minutes"],
            "auroc_p_against_best": row.get("auroc_p_against_best"),
            "accuracy_p_against_best": row.get("accuracy_p_against_best"),
        }
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None)


def _row(row: Row, confidence: float) -> dict[str, Any]:
    outcomes = row.outcomes
    learned = [o.train_accuracy for o in outcomes if o.train_accuracy is not None]
    return {
        "key": row.key,
        "kind": row.kind,
        "model": row.model,
        "variant": row.variant,
        "freeze": row.freeze,
        "balance": row.balance,
        "weights": row.weights,
        "pretrained": row.pretrained,
        "input": row.input_shape,
        "train_accuracy": statistics.fmean(learned) if learned else None,
        "accuracy": statistics.fmean(o.test["accuracy"] for o in outcomes),
        **_auroc(outcomes, confidence),
        "fpr_at_tpr": {
            tpr: statistics.fmean(o.test["fpr_at_tpr"][tpr] for o in outcomes) for tpr in outcomes[0].test["fpr_at_tpr"]
        },
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "flops": None if row.multiply_adds is None else 2 * row.multiply_adds,
        "images_per_second": row.images_per_second,
        "minutes": statistics.fmean(o.minutes for o in outcomes),
        "changes": list(outcomes[0].changes),
        "roc": _curve(outcomes[0]),
        "seeds": [_seed(o) for o in outcomes],
    }


def _auroc(outcomes: Sequence[Outcome], confidence: float) -> dict[str, Any]:
    """Returns AUC and interval: one seed has its bootstrap, several are combined."""
    if len(outcomes) == 1:
        test = outcomes[0].test
        return {"auroc": test["auroc"], "auroc_ci": test["auroc_ci"], "auroc_ci_from": ONE_SEED}
    errors = [
        float(np.sqrt(max(auroc_covariance(o.scores["label"], o.scores["score"])[1][0, 0], 0.0))) for o in outcomes
    ]
    combined = over_seeds([o.test["auroc"] for o in outcomes], errors, confidence=confidence)
    low, high = combined.interval
    return {"auroc": combined.mean, "auroc_ci": [max(low, 0.0), min(high, 1.0)], "auroc_ci_from": SEEDS}


def _curve(outcome: Outcome) -> list[list[float]]:
    """Returns the corners of the ROC curve of one seed near a TPR of 1, as (FPR, TPR)."""
    curve = roc_curve(outcome.scores["label"].to_numpy(), outcome.scores["score"].to_numpy())
    near = max(int(np.searchsorted(curve.tpr, _CURVE_FROM)) - 1, 0)
    points = list(zip(curve.fpr[near:].tolist(), curve.tpr[near:].tolist(), strict=True))
    corners = [
        at
        for before, at, after in zip(points, points[1:], points[2:], strict=False)
        if not (before[0] == at[0] == after[0] or before[1] == at[1] == after[1])
    ]
    return [[round(x, 6), round(y, 6)] for x, y in [points[0], *corners, points[-1]]]


def _seed(outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": outcome.seed,
        "train_accuracy": outcome.train_accuracy,
        "test": outcome.test,
        "minutes": outcome.minutes,
        "changes": list(outcome.changes),
        "folder": None if outcome.folder is None else str(outcome.folder),
        "history": list(outcome.history),
    }


def _verdict(told: Sequence[dict[str, Any]], names: dict[str, str], level: float) -> str:
    """Says in one or two sentences what the table says."""
    best = told[0]
    first = f"{names[best['key']]} has the highest AUC, {best['auroc']:.4f}"
    if len(told) == 1:
        return f"{first}; there is nothing to compare it with."
    even = [names[row["key"]] for row in told[1:] if row["auroc_p_against_best"] >= level]
    if not even:
        return f"{first}; the rest is really behind it."
    if len(even) == len(told) - 1:
        return f"{first}, but no difference to any other row is shown."
    some = [*even[:_NAMED], f"{len(even) - _NAMED} more"] if len(even) > _NAMED + 1 else even
    return f"{first}; no difference is shown to {', '.join(some)}; the rest is really behind it."


def _freezing(freeze: str) -> str:
    return {"none": "nothing frozen", "stem": "stem frozen", "all-but-head": "all but head frozen"}.get(freeze, freeze)


def _divided(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit

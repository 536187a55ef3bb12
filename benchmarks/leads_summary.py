"""Paired differences between the arms of benchmarks/leads.py, with t intervals over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import t as student

Run = dict[str, Any]


def summary(runs: list[Run]) -> dict[str, Any]:
    """Every figure of every arm, and of the pairs its difference from plain."""
    figures = {(run["arm"], run["seed"]): flat(run) for run in runs}
    arms = sorted({run["arm"] for run in runs}, key=["plain", "true_masks", "mask_leads", "roi"].index)
    document: dict[str, Any] = {"seeds": sorted({run["seed"] for run in runs}), "arms": {}, "differences": {}}
    for arm in arms:
        document["arms"][arm] = _each([f for (a, _), f in figures.items() if a == arm], mean_of)
    for arm in arms[1:]:
        pairs = [(f, figures["plain", s]) for (a, s), f in figures.items() if a == arm and ("plain", s) in figures]
        gaps = [{name: a[name] - b[name] for name in a.keys() & b.keys()} for a, b in pairs]
        document["differences"][f"{arm} - plain"] = _each(gaps, interval_of)
    return document


def flat(run: Run) -> dict[str, float]:
    """The figures of one run that are compared, by name."""
    found = {
        "AUC": run["auroc"],
        "overkill at TPR 99.5 %": run["overkill_at_tpr_0.995"],
        "pointing game": run["localisation"]["pointing"],
        "box IoU": run["localisation"]["box_iou"],
    }
    found |= {f"AUC, {kind.replace('_', ' ')}": one["auroc"] for kind, one in run["by_defect"].items()}
    rows = run["attention"][1:]
    for row in rows:
        for stage, shares in row["shares"].items():
            if shares["leads"] is not None:
                found[f"on leads, {stage}, epoch {row['epoch']}"] = shares["leads"]
    return found


def mean_of(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "values": values}


def interval_of(values: list[float]) -> dict[str, Any]:
    """Mean with its 95 % t interval; without one for a single pair."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "interval": None, "values": values}
    reach = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": mean, "interval": [mean - reach, mean + reach], "values": values}


def _each(rows: list[dict[str, float]], combine: Any) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: combine([row[name] for row in rows if name in row]) for name in sorted(names)}

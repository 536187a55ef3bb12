"""What the benchmarks commit: figures of each seed, their mean and spread, the machine, the command."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from typing import Any

from knowngood.workflows.runs import versions
from knowngood.workflows.train import Trained

FIGURES = ("auroc", "accuracy", "average_precision", "balanced_accuracy", "escape_rate", "overkill_rate", "ece")


def summarise(runs: Sequence[Trained], command: str) -> dict[str, Any]:
    """Returns one JSON document for runs that differ in their seed alone."""
    rows = []
    for run in runs:
        test = run.metrics["test"]
        rows.append(
            {
                "seed": run.recipe.manifest.seed,
                **{name: test[name] for name in FIGURES},
                "auroc_ci": test["auroc_ci"],
                "fpr_at_tpr": test["fpr_at_tpr"],
                "train_accuracy": run.metrics["train_as_fitted"]["accuracy"],
                "certified_escape_rate": run.metrics["threshold"]["certified_escape_rate"],
                "n_good": test["n_good"],
                "n_bad": test["n_bad"],
                "seconds": run.metrics["seconds"],
                "training": run.metrics["training"],
            }
        )
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "gpu": None},
        "versions": versions(),
        "config": runs[0].recipe.manifest.config,
        "weights": runs[0].recipe.manifest.provenance,
        "test": {name: spread([row[name] for row in rows]) for name in FIGURES},
        "overkill_at_tpr": {t: spread([row["fpr_at_tpr"][t] for row in rows]) for t in rows[0]["fpr_at_tpr"]},
        "seeds": rows,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Returns mean, standard deviation and range of one figure over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "stdev": deviation, "min": min(values), "max": max(values)}

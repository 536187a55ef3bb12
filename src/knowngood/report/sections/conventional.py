"""The conventional classifiers in one table, with the columns of the networks' comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knowngood import wording
from knowngood.report.page import Section, render

Rows = Sequence[dict[str, Any]]


def conventional_section(rows: Rows) -> Section:
    """Makes the table; several seeds become mean and standard deviation.

    Args:
        rows: One a model and seed: model, seed, cv_auroc, train_accuracy, test (`Metrics.to_dict()`), seconds,
            images_per_second, setting.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    first = rows[0]
    body = render(
        "sections/conventional.html",
        tprs=[f"{100 * float(tpr):g} %" for tpr in first["test"]["fpr_at_tpr"]],
        table=[_words(name, [row for row in rows if row["model"] == name]) for name in models],
        settings=[(row["model"], row["seed"], row["setting"], row["grid"]) for row in rows],
        seeds=len({row["seed"] for row in rows}),
        test=(first["test"]["n_good"], first["test"]["n_bad"]),
    )
    lead = "Taught on the features of a pretrained network, which stays as it is; tested on images never seen before."
    return Section("conventional", "Conventional classifiers", body, lead)


def _words(name: str, rows: Rows) -> dict[str, Any]:
    """Returns one model's figures in words: with one seed the AUC has its interval, with several its spread."""
    tests = [row["test"] for row in rows]
    return {
        "name": name,
        "cv": wording.several([row["cv_auroc"] for row in rows], wording.decimal),
        "train": wording.several([row["train_accuracy"] for row in rows], wording.percent),
        "test": wording.several([test["accuracy"] for test in tests], wording.percent),
        "auroc": wording.several([test["auroc"] for test in tests], wording.decimal),
        "interval": wording.decimal_range(tests[0]["auroc_ci"]) if len(tests) == 1 else "",
        "overkill": [
            wording.several([test["fpr_at_tpr"][t] for test in tests], wording.percent) for t in tests[0]["fpr_at_tpr"]
        ],
        "fit": f"{sum(row['seconds'] for row in rows) / len(rows):.1f}",
        "speed": f"{sum(row['images_per_second'] for row in rows) / len(rows):.1f}",
    }

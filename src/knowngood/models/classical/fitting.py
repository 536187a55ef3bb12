"""Chooses a conventional classifier's setting by cross-validation on the training rows, then fits it on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.data.splits import Ids, teaches
from knowngood.decide.metrics import auroc
from knowngood.errors import DataError
from knowngood.models.classical.contract import Conventional, Margins, Rows, Setting, checked_rows, margins_of
from knowngood.progress import track

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FittedClassifier:
    """A fitted classifier and how its setting was found.

    Attributes:
        estimator: Of scikit-learn.
        setting: That cross-validation chose.
        auroc: Mean over the folds of rows scored by a machine that had not seen them; the best of `table`.
        table: One row a setting: the setting, and its cross-validated AUC.
        width: Number of features.
        taught: How many rows it was fitted on.
    """

    estimator: Any
    setting: Setting
    auroc: float
    table: list[dict[str, Any]]
    width: int
    taught: int

    def margins(self, features: Any) -> Margins:
        """Returns how far images lie on the bad side, float64 (N,), higher = more likely bad.

        Raises:
            DataError: The features are not like the fitted ones.
        """
        return margins_of(self.estimator, checked_rows(features, self.width))


def fit_classifier(kind: Conventional, features: Any, bad: Bools, folds: Ids, seed: int = 0) -> FittedClassifier:
    """Fits one classifier.

    Args:
        kind: What to fit.
        features: (N, D) of the training rows.
        bad: (N,) bool.
        folds: int64 (N,), from `data.splits.kfold`: held out there, or negative for rows that only teach.
        seed: Of what the classifier draws, and of which rows teach when there are too many.

    Raises:
        DataError: There is one class only, or the features cannot be used.
    """
    rows = checked_rows(features)
    _check_classes(bad, len(rows))
    chosen = _at_most(kind.most_rows, bad, np.random.default_rng(seed))
    rows, bad, folds = rows[chosen], bad[chosen], folds[chosen]
    numbers = np.unique(folds[folds >= 0])
    smallest = min((int(teaches(folds, int(fold)).sum()) for fold in numbers), default=len(rows))
    table = []
    for setting in track(kind.settings(smallest), kind.summary):
        areas = []  # a fold at a time: margins of different machines need not be of one scale
        for fold in numbers:
            teach, hold = teaches(folds, int(fold)), folds == fold
            if bad[teach].any() and not bad[teach].all():  # else the fold holds every example of a class
                margins = margins_of(_fitted(kind, setting, rows[teach], bad[teach], seed), rows[hold])
                areas.append(auroc(bad[hold], margins))
        known = [area for area in areas if area is not None]
        table.append({**setting, "auroc": fmean(known) if known else 0.5})
    best = max(range(len(table)), key=lambda i: table[i]["auroc"])
    setting = kind.settings(smallest)[best]
    estimator = _fitted(kind, setting, rows, bad, seed)
    return FittedClassifier(estimator, setting, table[best]["auroc"], table, rows.shape[1], len(rows))


def _fitted(kind: Conventional, setting: Setting, rows: Rows, bad: Bools, seed: int) -> Any:
    return kind.build(setting, rows.shape[1], seed).fit(rows, bad.astype(np.uint8))


def _check_classes(bad: Bools, count: int) -> None:
    if len(bad) != count:
        raise DataError(f"There are {count} rows of features and {len(bad)} labels.", expected="one label a row")
    if bad.all() or not bad.any():
        raise DataError(
            f"All {count} training images are {'bad' if bad.all() and count else 'good'}.",
            expected="good and bad images",
            fix="Add images of the other class.",
        )


def _at_most(most: int | None, bad: Bools, random: np.random.Generator) -> Ids:
    """Returns which rows teach: all, or as many as can be taken, up to half of them bad."""
    if most is None or len(bad) <= most:
        return np.arange(len(bad), dtype=np.int64)
    bads = random.permutation(np.flatnonzero(bad))[: max(most // 2, most - int((~bad).sum()))]
    goods = random.permutation(np.flatnonzero(~bad))[: most - len(bads)]
    return np.sort(np.concatenate([bads, goods])).astype(np.int64)

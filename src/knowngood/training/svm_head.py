"""Fits the SVM head: an RBF support-vector machine on the stage features of a frozen trunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.data.records import BAD, Records
from knowngood.data.splits import kfold_up_to, trains_on
from knowngood.metrics.figures import auroc
from knowngood.models.classical import MOST_ROWS, at_most
from knowngood.models.distances import squared_distances
from knowngood.models.heads import SvmHead
from knowngood.progress import track
from knowngood.training.targets import Rows, targets_of

Features = npt.NDArray[np.float32]
FOLDS = 4
UNSURE = 0.3  # weight of a photograph whose annotators were between sure and sure (0.1 < P(bad) < 0.9)
_GRID = tuple((cost, width) for cost in (1.0, 5.0, 25.0) for width in (0.5, 1.0))


@dataclass(frozen=True)
class SvmFit:
    """A fitted head and how its settings were found.

    Attributes:
        head: Ready to be put on a trunk.
        cost: Penalty C of the chosen machine.
        width: gamma times the number of features.
        table: One row a setting: cost, width, out-of-fold AUC.
        out_of_fold: (N,) out-of-fold raw scores; NaN for rows that were not held out.
        rows: Rows that were used; all, unless there are more than `MOST_ROWS`.
    """

    head: SvmHead
    cost: float
    width: float
    table: list[dict[str, float]]
    out_of_fold: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


def fit_svm_on(features: npt.NDArray[np.float32], records: Records, groups: Rows, rows: Rows, seed: int) -> SvmFit:
    """Fits an SVM head on some rows of a set.

    Args:
        features: (N, S) stage features.
        records: (N rows).
        groups: (N,) what belongs together in cross-validation, from `groups_of`.
        rows: Which of them train; generated ones train and are never held out.
        seed: Of the folds.
    """
    folds = kfold_up_to(records.with_frame(records.frame[rows]), FOLDS, seed, groups=groups[rows])
    bad = targets_of(records).bad
    sure = np.where((bad > 0.1) & (bad < 0.9), UNSURE, 1.0).astype(np.float32)
    labels = (records.frame["label"] == BAD).fill_null(False).to_numpy()
    return fit_svm_head(features[rows], labels[rows], sure[rows], folds, seed)


def fit_svm_head(
    features: Features,
    bad: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float32],
    folds: npt.NDArray[np.int64],
    seed: int,
) -> SvmFit:
    """Chooses cost and kernel width by cross-validation on the training rows alone, then fits on all of them.

    Args:
        features: (N, D) float32.
        bad: (N,) bool.
        weight: (N,) > 0; balancing of the classes is done here, on top of it.
        folds: (N,) fold numbers that keep lots together; negative for rows that only train, see `splits.kfold`.
        seed: Decides which good rows are used when there are too many.

    Returns:
        The fitted head. Reference: Cortes & Vapnik 1995; settings with C and gamma as scikit-learn's SVC.
    """
    rows = at_most(MOST_ROWS, bad, np.random.default_rng(seed))
    bad_, folds_ = bad[rows], folds[rows]
    counts = np.where(bad_, bad_.sum(), (~bad_).sum())
    weight_ = weight[rows] * len(rows) / (2 * counts)
    scaler = StandardScaler().fit(features[rows])
    scaler.scale_ = np.where(scaler.scale_ < 1e-6, 1.0, scaler.scale_)
    standard = scaler.transform(features[rows]).astype(np.float32)
    squared = squared_distances(standard, standard)
    tested = folds_ >= 0
    table, raw = [], {}
    for cost, width in track(_GRID, "SVM head"):
        kernel = np.exp(-width / features.shape[1] * squared)
        raw[cost, width] = _out_of_fold(kernel, bad_, weight_, folds_, cost)
        table.append({"cost": cost, "width": width, "auroc": auroc(bad_[tested], raw[cost, width][tested]) or 0.5})
    best = max(table, key=lambda row: row["auroc"])
    cost, width = best["cost"], best["width"]
    machine = SVC(C=cost, kernel="precomputed", cache_size=1000)
    machine.fit(np.exp(-width / features.shape[1] * squared), bad_, sample_weight=weight_)
    head = SvmHead(features.shape[1], len(machine.support_))
    head.mean.copy_(torch.from_numpy(scaler.mean_).float())
    head.scale.copy_(torch.from_numpy(scaler.scale_).float())
    head.support.copy_(torch.from_numpy(standard[machine.support_]))
    head.alpha.copy_(torch.from_numpy(machine.dual_coef_[0]).float())
    head.offset.fill_(float(machine.intercept_[0]))
    head.gamma.fill_(width / features.shape[1])
    scored = np.full(len(bad), np.nan)
    scored[rows[tested]] = raw[cost, width][tested]
    return SvmFit(head, cost, width, table, scored, rows)


def _out_of_fold(
    kernel: Features,
    bad: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
    folds: npt.NDArray[np.int64],
    cost: float,
) -> npt.NDArray[np.float64]:
    raw = np.zeros(len(bad))
    for fold in np.unique(folds[folds >= 0]):
        fit, hold = np.flatnonzero(trains_on(folds, int(fold))), np.flatnonzero(folds == fold)
        if bad[fit].all() or not bad[fit].any():
            continue  # a fold that holds every example of a class cannot be learned from the others
        machine = SVC(C=cost, kernel="precomputed", cache_size=1000)
        machine.fit(kernel[np.ix_(fit, fit)], bad[fit], sample_weight=weight[fit])
        raw[hold] = machine.decision_function(kernel[np.ix_(hold, fit)])
    return raw

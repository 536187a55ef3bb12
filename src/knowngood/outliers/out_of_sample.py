"""Defect scores of images by machines that had not seen them, from cross-validation on features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.data.splits import teaches
from knowngood.decide.calibration import Calibration, fit_calibration
from knowngood.errors import DataError
from knowngood.models.training.kernel import MOST_ROWS, KernelFit, fit_kernel_head, squared_distances
from knowngood.outliers.blocks import row_blocks
from knowngood.outliers.detectors.contract import checked_features
from knowngood.progress import track
from knowngood.scale.mapping import mapped

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OutOfSample:
    """Calibrated scores of rows by machines that had not seen them.

    Attributes:
        scores: float64 (N,) probability of being bad; NaN for rows of no fold.
        calibration: From margins to scores: two numbers, fitted on all out-of-sample margins and given labels.
        cost: Penalty C that cross-validation chose.
        width: gamma times the number of features.
    """

    scores: Floats
    calibration: Calibration
    cost: float
    width: float


def out_of_fold_scores(
    features: Rows,
    labels: npt.ArrayLike,
    folds: Ids,
    seed: int = 0,
    *,
    weight: Rows | None = None,
) -> OutOfSample:
    """Scores every image with a kernel machine taught on the other folds, and calibrates the scores.

    Args:
        features: (N, D) float32.
        labels: (N,) 0 good, 1 bad, as given.
        folds: int64 (N,) fold in which a row is held out (`data.splits.kfold` keeps lots together); negative
            for rows that only teach.
        seed: Decides which rows teach when there are more than the machine can take (8,000).
        weight: float32 (N,) > 0, how much a row teaches.

    Returns:
        Scores in the order of the rows. Rows that the chosen 8,000 leave out are scored by one machine a fold, of
        the same settings.

    Raises:
        DataError: Features or labels cannot be used, or fewer than two folds hold rows.
    """
    rows = np.asarray(checked_features(features, least=4), np.float32)
    bad, fold = _checked(labels, folds, len(rows))
    weights = np.ones(len(rows), np.float32) if weight is None else np.asarray(weight, np.float32)
    fit = fit_kernel_head(rows, bad, weights, fold, seed)
    margins = _completed(fit, rows, bad, weights, fold)
    held = np.isfinite(margins)
    calibration = fit_calibration(margins[held], bad[held].astype(np.uint8))
    scores = np.full(len(rows), np.nan)
    scores[held] = calibration.apply(margins[held])
    return OutOfSample(scores, calibration, fit.cost, fit.width)


def _completed(fit: KernelFit, rows: Rows, bad: npt.NDArray[np.bool_], weight: Rows, folds: Ids) -> Floats:
    """Fills in the margins of rows that were left out because there were too many."""
    margins = fit.out_of_fold.copy()
    left = np.isnan(margins) & (folds >= 0)
    for fold in track(np.unique(folds[left]), "scores out of sample"):
        teach = fit.rows[teaches(folds[fit.rows], int(fold))]
        if bad[teach].all() or not bad[teach].any():
            margins[left & (folds == fold)] = 0.0  # as the kernel head does: no machine can be taught
            continue
        scaler = StandardScaler().fit(rows[teach])
        taught, gamma = scaler.transform(rows[teach]).astype(np.float32), fit.width / rows.shape[1]
        balanced = weight[teach] * len(teach) / (2 * np.where(bad[teach], bad[teach].sum(), (~bad[teach]).sum()))
        machine = SVC(C=fit.cost, kernel="precomputed", cache_size=1000)  # libsvm's own kernel takes minutes here
        machine.fit(np.exp(-gamma * squared_distances(taught, taught)), bad[teach], sample_weight=balanced)
        ask = np.flatnonzero(left & (folds == fold))
        blocks = list(row_blocks(ask, max(rows.shape[1], MOST_ROWS)))
        judge = partial(_margins, scaler, taught, gamma, machine)
        for block, made in zip(blocks, mapped(judge, (rows[ask[block]] for block in blocks)), strict=True):
            margins[ask[block]] = made
    return margins


def _margins(scaler: StandardScaler, taught: Rows, gamma: float, machine: SVC, rows: Rows) -> Floats:
    """Returns the margins of a bounded number of rows by a machine that was taught on the scaled rows `taught`."""
    asked = scaler.transform(rows).astype(np.float32)
    return np.asarray(machine.decision_function(np.exp(-gamma * squared_distances(asked, taught))), np.float64)


def _checked(labels: npt.ArrayLike, folds: npt.ArrayLike, count: int) -> tuple[npt.NDArray[np.bool_], Ids]:
    label, fold = np.asarray(labels), np.asarray(folds, np.int64)
    if label.shape != (count,) or fold.shape != (count,):
        raise DataError(
            f"{count} rows of features have labels of shape {label.shape} and folds of shape {fold.shape}.",
            expected="one label and one fold for each row",
        )
    if not np.isin(label, (0, 1)).all():
        raise DataError("A label is neither 0 (good) nor 1 (bad).", fix="Leave unlabelled images out.")
    if len(np.unique(fold[fold >= 0])) < 2:
        raise DataError("Scores out of sample need at least two folds with images.", fix="Raise --folds.")
    bad = label.astype(bool)
    if bad.all() or not bad.any():
        raise DataError(
            f"All {count} images are labelled {'bad' if bad.all() else 'good'}.",
            expected="good and bad images",
            fix="Suspected labels need both; outliers can be found without.",
        )
    return bad, fold

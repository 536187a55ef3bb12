"""Out-of-fold defect scores from cross-validation on features, and the labels that they make suspect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.data.splits import trains_on
from knowngood.errors import DataError
from knowngood.metrics.calibration import Calibration, fit_calibration
from knowngood.models.classical import MOST_ROWS
from knowngood.models.distances import squared_distances
from knowngood.outliers.detectors import checked_features, row_blocks
from knowngood.progress import track
from knowngood.scale.mapping import mapped
from knowngood.training.svm_head import SvmFit, fit_svm_head

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OutOfFold:
    """Calibrated out-of-fold scores.

    Attributes:
        scores: float64 (N,) probability of being bad; NaN for rows of no fold.
        calibration: From raw scores to probabilities, fitted on all out-of-fold raw scores and given labels.
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
) -> OutOfFold:
    """Scores every image with an SVM fitted on the other folds, and calibrates the scores.

    Args:
        features: (N, D) float32.
        labels: (N,) 0 good, 1 bad, as given.
        folds: int64 (N,) fold in which a row is held out (`data.splits.kfold` keeps lots together); negative
            for rows that are only trained on.
        seed: Decides which rows are trained on when there are more than the SVM can take (8,000).
        weight: float32 (N,) > 0, sample weight of each row.

    Returns:
        Scores in the order of the rows. Rows that the chosen 8,000 leave out are scored by one more SVM a fold, with
        the same settings.

    Raises:
        DataError: Features or labels cannot be used, or fewer than two folds hold rows.
    """
    rows = np.asarray(checked_features(features, least=4), np.float32)
    bad, fold = _checked(labels, folds, len(rows))
    weights = np.ones(len(rows), np.float32) if weight is None else np.asarray(weight, np.float32)
    fit = fit_svm_head(rows, bad, weights, fold, seed)
    raw_scores = _completed(fit, rows, bad, weights, fold)
    scored = np.isfinite(raw_scores)
    calibration = fit_calibration(raw_scores[scored], bad[scored].astype(np.uint8))
    scores = np.full(len(rows), np.nan)
    scores[scored] = calibration.apply(raw_scores[scored])
    return OutOfFold(scores, calibration, fit.cost, fit.width)


def _completed(fit: SvmFit, rows: Rows, bad: npt.NDArray[np.bool_], weight: Rows, folds: Ids) -> Floats:
    """Returns the out-of-fold raw scores, with those of rows beyond the SVM's limit filled in."""
    raw_scores = fit.out_of_fold.copy()
    left = np.isnan(raw_scores) & (folds >= 0)
    for fold in track(np.unique(folds[left]), "out-of-fold scores"):
        train_rows = fit.rows[trains_on(folds[fit.rows], int(fold))]
        if bad[train_rows].all() or not bad[train_rows].any():
            raw_scores[left & (folds == fold)] = 0.0  # as the SVM head does: one class alone cannot be fitted
            continue
        scaler = StandardScaler().fit(rows[train_rows])
        fitted, gamma = scaler.transform(rows[train_rows]).astype(np.float32), fit.width / rows.shape[1]
        balanced = (
            weight[train_rows]
            * len(train_rows)
            / (2 * np.where(bad[train_rows], bad[train_rows].sum(), (~bad[train_rows]).sum()))
        )
        machine = SVC(C=fit.cost, kernel="precomputed", cache_size=1000)  # libsvm's own kernel takes minutes here
        machine.fit(np.exp(-gamma * squared_distances(fitted, fitted)), bad[train_rows], sample_weight=balanced)
        ask = np.flatnonzero(left & (folds == fold))
        blocks = list(row_blocks(ask, max(rows.shape[1], MOST_ROWS)))
        score_rows = partial(_raw_scores, scaler, fitted, gamma, machine)
        for block, made in zip(blocks, mapped(score_rows, (rows[ask[block]] for block in blocks)), strict=True):
            raw_scores[ask[block]] = made
    return raw_scores


def _raw_scores(scaler: StandardScaler, fitted: Rows, gamma: float, machine: SVC, rows: Rows) -> Floats:
    """Returns the raw scores of a bounded number of rows by an SVM that was fitted on the scaled rows `fitted`."""
    asked = scaler.transform(rows).astype(np.float32)
    return np.asarray(machine.decision_function(np.exp(-gamma * squared_distances(asked, fitted))), np.float64)


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


Bools: TypeAlias = npt.NDArray[np.bool_]
Labels: TypeAlias = npt.NDArray[np.uint8]
Rule: TypeAlias = Literal["confident", "likelier"]
_CLOSE = 1e-6  # rounding allowed beside a threshold, as the reference implementation does


@dataclass(frozen=True)
class Suspects:
    """Label issues found by confident learning; NaN or False for rows without label or score.

    Attributes:
        score: float64 (N,) in [0, 1], 1 - p(given label), higher = more likely a wrong label. With two classes the
            order is that of the normalised margin of cleanlab (p(given) - p(other) + 1) / 2.
        suspect: bool (N,), confidently of the other class, and that class is the likelier one.
        other_side: bool (N,), suspects among the images labelled bad that `one_sided` keeps out of `suspect`.
        suggested_label: uint8 (N,), the other label for suspects (both sides), else the given one.
        thresholds: float64 (2,), mean p(label) of the images given that label, good then bad.
        joint: int64 (2, 2), confident joint: rows given, columns true, good then bad.
        noise: float64 (2,), estimated P(truly the other | given), good then bad.
    """

    score: Floats
    suspect: Bools
    other_side: Bools
    suggested_label: Labels
    thresholds: Floats
    joint: npt.NDArray[np.int64]
    noise: Floats

    def ranked(self) -> npt.NDArray[np.int64]:
        """Returns the rows of `suspect`, the highest score first."""
        rows = np.flatnonzero(self.suspect)
        return rows[np.argsort(-self.score[rows], kind="stable")]


def find_suspects(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, one_sided: bool = False, rule: Rule = "confident"
) -> Suspects:
    """Finds suspected wrong labels.

    A class counts as confident for an image when its probability reaches that class' threshold; of two, the
    likelier. Images that are confidently of another class than given are suspects, unless the given label is the
    likelier one all the same.

    Args:
        scores: (N,) probability of being bad, out of sample, calibrated; NaN where there is none.
        labels: (N,) 0 good, 1 bad as given; any other value for no label.
        one_sided: Only bad images hidden among good are expected: suspects among the bad are reported apart, in
            `other_side`, not dropped.
        rule: "confident" as above; "likelier" takes every image whose other class is the likelier one: more of the
            planted errors found, a few more false alarms (benchmarks/results/outliers_scale.json).

    Returns:
        Suspects in the order of the rows.

    Raises:
        DataError: Lengths differ, a score is no probability, or a class is missing.

    Reference:
        Northcutt et al. 2021, equations 1 and 2; suspects are the off-diagonals of the confident joint, less those
        whose given label is the likelier one, as in its authors' software.
    """
    bad_score, given, known = _checked_suspects(scores, labels)
    both = np.stack([1 - bad_score, bad_score], axis=1)  # (K, 2), rows with label and score only
    thresholds = np.array([both[given == c, c].mean() for c in (0, 1)])
    thresholds = np.maximum(thresholds, 2 * _CLOSE)
    confident = both >= thresholds - _CLOSE
    likelier = both.argmax(axis=1)
    guess = np.where(confident.all(axis=1), likelier, confident.argmax(axis=1))
    sure = confident.any(axis=1)
    joint = np.zeros((2, 2), np.int64)
    np.add.at(joint, (given[sure], guess[sure]), 1)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    at = np.arange(len(given))
    other_likelier = both[at, 1 - given] > both[at, given] + _CLOSE
    issue = other_likelier & sure & (guess != given) if rule == "confident" else other_likelier
    return _spread_out(known, given, both[at, given], issue, thresholds, joint, one_sided)


def _spread_out(
    known: Bools,
    given: npt.NDArray[np.int64],
    confidence: Floats,
    issue: Bools,
    thresholds: Floats,
    joint: npt.NDArray[np.int64],
    one_sided: bool,
) -> Suspects:
    """Puts what was found for the known rows back among all rows."""
    rows = np.flatnonzero(known)
    score = np.full(len(known), np.nan)
    score[rows] = 1 - confidence
    suspect, other = np.zeros(len(known), bool), np.zeros(len(known), bool)
    suspect[rows] = issue & ~((given == 1) & one_sided)
    other[rows] = issue & (given == 1) & one_sided
    suggested = np.zeros(len(known), np.uint8)
    suggested[rows] = np.where(issue, 1 - given, given)
    noise = np.array([joint[0, 1] / joint[0].sum(), joint[1, 0] / joint[1].sum()])
    return Suspects(score, suspect, other, suggested, thresholds, joint, noise)


def _checked_suspects(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64], Bools]:
    score = np.asarray(scores, np.float64)
    label: npt.NDArray[Any] = np.asarray(labels)
    if score.ndim != 1 or score.shape != label.shape:
        raise DataError(
            f"Scores of shape {score.shape} and labels of shape {label.shape} do not pair.", expected="(N,) and (N,)"
        )
    known = np.isin(label, (0, 1)) & ~np.isnan(score)
    beyond = known & ~((score >= 0) & (score <= 1))
    if beyond.any():
        raise DataError(
            f"Score {score[beyond][0]} of row {int(np.argmax(beyond))} is no probability.",
            expected="calibrated scores in [0, 1]",
            fix="Calibrate logits first (decide.calibration.fit_calibration).",
        )
    given = label[known].astype(np.int64)
    if len(np.unique(given)) < 2:
        raise DataError("Suspects need images of both labels with a score.", expected="good and bad images")
    return score[known], given, known

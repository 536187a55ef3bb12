"""The audit table: outliers, label issues, rare defects and conflicting duplicates of a training set.

This floor takes arrays (features, labels, out-of-sample scores) and gives scores and lists; it removes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.errors import DataError
from knowngood.outliers.detectors import DETECTORS, Detector, Features, checked_features
from knowngood.outliers.label_issues import Rule, Suspects, find_suspects, out_of_fold_scores
from knowngood.outliers.neighbour_detectors import Forest
from knowngood.outliers.neighbours import find_copies, find_rare
from knowngood.outliers.ocsvm import OneClassSvm

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StudyOutliers:
    """Both single verdicts and their agreement, a value an image.

    Attributes:
        ocsvm_score: float64 (N,), higher = more abnormal.
        ocsvm_outlier: bool (N,), as scikit-learn's predict() == -1.
        iforest_score: float64 (N,), in (0, 1], higher = more abnormal.
        iforest_outlier: bool (N,), as scikit-learn's predict() == -1.
        outlier: bool (N,), flagged by both.
    """

    ocsvm_score: Floats
    ocsvm_outlier: Bools
    iforest_score: Floats
    iforest_outlier: Bools
    outlier: Bools


def study_outliers(
    features: Features, seed: int = 0, *, nu: float = 0.01, contamination: float = 0.01, machine: Detector | None = None
) -> StudyOutliers:
    """Flags what the one-class machine and the isolation forest both flag.

    Args:
        features: (N, D) finite, penultimate features; float32 keeps memory low.
        seed: Of the forest; the machine draws nothing.
        nu: Of the one-class machine (RBF, gamma = 1 / (D var)).
        contamination: Of the forest.
        machine: In place of the exact machine, for instance `ocsvm_chunking` on very many images.

    Returns:
        Scores and verdicts in the order of the rows.

    Raises:
        DataError: The features cannot be used.
        ConfigError: A parameter is out of range.
    """
    first = (machine or OneClassSvm(nu=nu, seed=seed)).fit(features)
    second = Forest(contamination=contamination, seed=seed).fit(features)
    ocsvm, iforest = first.score(features), second.score(features)
    by_machine, by_forest = ocsvm > first.threshold_, iforest > second.threshold_
    return StudyOutliers(ocsvm, by_machine, iforest, by_forest, by_machine & by_forest)


Ids: TypeAlias = npt.NDArray[np.int64]
EXACT_UP_TO = 60_000  # images; the exact one-class machine takes about a minute there and grows with the square
CHUNKING_UP_TO = 200_000  # the same solution, still growing with the square, but several times more slowly
_UNKNOWN = 255


def audit_table(
    frame: pl.DataFrame,
    features: Features,
    folds: Ids,
    clusters: Ids,
    seed: int = 0,
    *,
    detectors: Sequence[str] = (),
    one_sided: bool = False,
    rule: Rule = "confident",
    scores: Floats | None = None,
) -> pl.DataFrame:
    """Audits a set: a row an image, in the order of the records.

    Args:
        frame: Records (N rows); `image` and `label` are read, null labels are left out of suspects.
        features: (N, D) float32, penultimate features of the same rows.
        folds: int64 (N,) fold in which a row is held out; -1 for rows that are only trained on (`data.splits.kfold`).
        clusters: int64 (N,), equal numbers are near-duplicates (`data.duplicates.near_clusters`).
        seed: Of everything drawn.
        detectors: Registered detectors to ask besides the study's two; each adds `<name>_score`, `<name>_outlier`.
        one_sided: Suspects among images labelled bad are reported in `suspect_other_side` instead of `suspect`.
        rule: Which images are suspects, see `find_suspects`.
        scores: (N,) probabilities of being bad, out of sample, from elsewhere (a cross-validated network); NaN
            where there is none. By default an SVM is cross-validated on the features.

    Returns:
        Columns image, label, ocsvm_score, ocsvm_outlier, iforest_score, iforest_outlier, outlier (both), those of
        `detectors`, out_of_fold_score (probability of being bad), suspect_score (0..1, higher = more likely a wrong
        label), suspect, suspect_other_side, suggested_label (null unless suspected), rare, good_distance, bad_distance,
        duplicate_of (first near-duplicate), conflicting_duplicate (a near-duplicate with the other label). Columns that
        need both classes are null where there is one. Above 60,000 images `ocsvm_chunking` replaces the exact
        one-class SVM, above 200,000 `ocsvm_nystroem`.

    Raises:
        DataError: Lengths differ, or the features cannot be used.
        UnknownNameError: No such detector.
    """
    rows = checked_features(features, least=2)
    _check_lengths(len(rows), frame=frame.height, folds=len(folds), clusters=len(clusters))
    labels = frame["label"].fill_null(_UNKNOWN).to_numpy()
    columns = frame.select("image", "label").to_dict()
    columns |= _outliers(rows, seed, detectors)
    columns |= _label_issues(rows, labels, folds, seed, one_sided, rule, scores)
    copies = find_copies(clusters, labels, rows)
    images = frame["image"]
    columns["duplicate_of"] = _named(images, copies.first)
    columns["conflicting_duplicate"] = _named(images, copies.partner)
    return pl.DataFrame([series.alias(name) for name, series in columns.items()])


def _outliers(rows: Features, seed: int, detectors: Sequence[str]) -> dict[str, pl.Series]:
    others = {name: DETECTORS.get(name)(seed=seed) for name in detectors}  # a wrong name before the long work
    study = study_outliers(rows, seed, machine=DETECTORS.get(machine_for(len(rows)))(seed=seed))
    columns = {name: pl.Series(values) for name, values in vars(study).items()}
    for name, detector in others.items():
        score = detector.fit_score(rows)
        columns[f"{name}_score"] = pl.Series(score)
        columns[f"{name}_outlier"] = pl.Series(score > detector.threshold_)
    return columns


def machine_for(count: int) -> str:
    """Returns the registered one-class machine for so many images: the exact one while it takes about a minute."""
    if count <= EXACT_UP_TO:
        return "ocsvm"
    return "ocsvm_chunking" if count <= CHUNKING_UP_TO else "ocsvm_nystroem"


def _label_issues(
    rows: Features,
    labels: npt.NDArray[Any],
    folds: Ids,
    seed: int,
    one_sided: bool,
    rule: Rule,
    scores: Floats | None,
) -> dict[str, pl.Series]:
    known = np.isin(labels, (0, 1))
    if len(np.unique(labels[known])) < 2:
        return {name: pl.Series([None] * len(rows), dtype=dtype) for name, dtype in _LABEL_ISSUES.items()}
    if scores is None:
        scores = np.full(len(rows), np.nan)
        scores[known] = out_of_fold_scores(
            np.asarray(rows[known], np.float32), labels[known], folds[known], seed
        ).scores
    found = find_suspects(scores, labels, one_sided=one_sided, rule=rule)
    suspects = found.suspect | found.other_side
    rarity = find_rare(rows, labels, suspects)
    return _label_issue_columns(scores, found, rarity.rare, rarity.good_distance, rarity.bad_distance)


def _label_issue_columns(
    scores: Floats, found: Suspects, rare: npt.NDArray[np.bool_], good_distance: Floats, bad_distance: Floats
) -> dict[str, pl.Series]:
    """Returns the columns; a rare image is no suspect, whatever the classifiers predict."""
    suspect, other = found.suspect & ~rare, found.other_side & ~rare
    suggested = pl.Series(found.suggested_label).set(pl.Series(~(suspect | other)), None)
    values: dict[str, Any] = {
        "out_of_fold_score": scores,
        "suspect_score": found.score,
        "suspect": suspect,
        "suspect_other_side": other,
        "suggested_label": suggested,
        "rare": rare,
        "good_distance": good_distance,
        "bad_distance": bad_distance,
    }
    return {name: pl.Series(values[name], dtype=dtype).fill_nan(None) if dtype == pl.Float64 else
            pl.Series(values[name], dtype=dtype) for name, dtype in _LABEL_ISSUES.items()}  # fmt: skip


_LABEL_ISSUES: dict[str, Any] = {
    "out_of_fold_score": pl.Float64,
    "suspect_score": pl.Float64,
    "suspect": pl.Boolean,
    "suspect_other_side": pl.Boolean,
    "suggested_label": pl.UInt8,
    "rare": pl.Boolean,
    "good_distance": pl.Float64,
    "bad_distance": pl.Float64,
}


def _named(images: pl.Series, rows: Ids) -> pl.Series:
    names = images.to_list()
    return pl.Series([names[row] if row >= 0 else None for row in rows], dtype=pl.String)


def _check_lengths(count: int, **given: int) -> None:
    for name, length in given.items():
        if length != count:
            raise DataError(
                f"There are {count} rows of features and {length} of {name}.",
                expected="one row an image in each",
                fix="Make features, folds and clusters from the same records.",
            )

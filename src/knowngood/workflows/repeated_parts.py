"""How much an AUC rises when images of one part are on both sides of a fold, measured by cross-validation."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.data.records import BAD, Records
from knowngood.data.splits import kfold_up_to
from knowngood.errors import DataError
from knowngood.metrics.figures import auroc
from knowngood.models.distances import squared_distances

Ids: TypeAlias = npt.NDArray[np.int64]
FOLDS, REPEATS, MOST = 4, 2, 1500
_COST = 5.0  # of the SVM: the middle of what training tries
_NO_DIFFERENCE = 0.0005  # of an AUC: smaller differences are reported as none


def leakage(features: npt.NDArray[np.float32], records: Records, groups: Ids, seed: int) -> dict[str, Any] | None:
    """Cross-validates one SVM on features of a frozen network, grouped by part and not.

    Args:
        features: (N, D), NaN rows for images that cannot be decoded.
        records: (N rows) with the facts on repeated parts.
        groups: int64 (N,), rows with equal numbers are kept together.
        seed: Of the folds, and of the units that are drawn when there are many.

    Returns:
        images, folds, auroc_ungrouped, auroc_grouped, auroc_suspected (with the suspected parts kept together as well;
        None where there are none) and a sentence; None where nothing is repeated or the set is too small.
    """
    repeated = records.repeated
    if repeated is None or not (repeated.units or repeated.suspected_images):
        return None
    frame = records.frame
    usable = (frame["label"].is_not_null() & ~frame["generated"]).to_numpy() & np.isfinite(features).all(axis=1)
    wide = np.array([repeated.suspected.get(name, -1) for name in frame["image"]], np.int64)
    wide = np.where(wide >= 0, wide, groups + wide.max(initial=0) + 1)
    rows = _drawn(np.flatnonzero(usable), wide if repeated.suspected else groups, seed)
    part, bad = records.with_frame(frame[rows]), (frame["label"] == BAD).fill_null(False).to_numpy()[rows]
    ways = {"ungrouped": np.arange(len(rows)), "grouped": groups[rows]}
    if repeated.suspected_images:
        ways["suspected"] = wide[rows]
    standard = StandardScaler().fit_transform(features[rows]).astype(np.float32)
    kernel = np.exp(-squared_distances(standard, standard) / features.shape[1])
    try:
        found = {name: _cross_validated(kernel, bad, part, ids, seed) for name, ids in ways.items()}
    except DataError:  # so few units that they cannot be folded
        return None
    return {
        "images": len(rows),
        "folds": FOLDS,
        **{f"auroc_{name}": found.get(name) for name in ("ungrouped", "grouped", "suspected")},
        "sentence": _sentence(found, bool(repeated.units)),
    }


def _drawn(rows: Ids, groups: Ids, seed: int) -> Ids:
    """Returns the rows, or about `MOST` of them in whole groups."""
    if len(rows) <= MOST:
        return rows
    own = groups[rows]
    order = np.random.default_rng(seed).permutation(np.unique(own))
    sizes = dict(zip(*np.unique(own, return_counts=True), strict=True))
    ends = np.cumsum([sizes[group] for group in order])
    return rows[np.isin(own, order[: max(1, int(np.searchsorted(ends, MOST)))])]


def _cross_validated(
    kernel: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_], records: Records, groups: Ids, seed: int
) -> float:
    """Returns the AUC of out-of-fold scores, the mean over several splits into folds."""
    found = []
    for repeat in range(REPEATS):
        folds = kfold_up_to(records, FOLDS, seed + repeat, groups=groups)
        scores = np.zeros(len(bad))
        for fold in range(int(folds.max()) + 1):
            fit, scored = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            svm = SVC(C=_COST, kernel="precomputed", class_weight="balanced")
            svm.fit(kernel[np.ix_(fit, fit)], bad[fit])
            scores[scored] = svm.decision_function(kernel[np.ix_(scored, fit)])
        found.append(auroc(bad, scores) or 0.5)
    return float(np.mean(found))


def _sentence(found: dict[str, float], kept: bool) -> str:
    clauses = []
    if kept:
        clauses.append(
            f"AUC {found['ungrouped']:.3f} if photographs of one part may fall on both sides, "
            f"{found['grouped']:.3f} if not, as here"
        )
    if "suspected" in found:
        clauses.append(
            f"AUC {found['grouped']:.3f} as divided here, {found['suspected']:.3f} if the suspected photographs are "
            f"kept together as well ({_change(found['suspected'] - found['grouped'])})"
        )
    return f"Cross-validated on features of a frozen network: {'; '.join(clauses)}."


def _change(by: float) -> str:
    return "no difference" if abs(by) < _NO_DIFFERENCE else f"{by:+.3f}"

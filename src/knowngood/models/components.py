"""The main ways in which features vary (PCA), and how well a straight line separates the classes there."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from knowngood.data.splits import Ids, teaches
from knowngood.decide.metrics import auroc
from knowngood.models.classical.contract import checked_rows, margins_of
from knowngood.models.classical.lda import ShrunkenLda

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
MOST = 50  # components looked at


@dataclass(frozen=True)
class Components:
    """Principal components of features.

    Attributes:
        pca: Of scikit-learn, fitted on centred features.
        explained: float64 (K,), share of the variance of each component, greatest first.
    """

    pca: PCA
    explained: Floats

    def project(self, features: object, components: int = 2) -> Floats:
        """Returns the first components of features (N, D), float64 (N, components)."""
        rows = checked_rows(features, int(self.pca.n_features_in_))
        return np.asarray(self.pca.transform(rows)[:, :components], np.float64)


@dataclass(frozen=True)
class Line:
    """How well a straight line (a plane) separates good and bad, on images that it was not fitted on.

    Attributes:
        auroc: Cross-validated, mean over the folds.
        accuracy: Cross-validated share of images on the right side.
    """

    auroc: float
    accuracy: float


def fit_components(features: object, seed: int = 0) -> Components:
    """Fits up to 50 principal components.

    Args:
        features: (N, D), at least two rows.
        seed: Of the randomised solver.
    """
    rows = checked_rows(features)
    count = min(MOST, len(rows), rows.shape[1])
    solver = "randomized" if count < 0.8 * min(rows.shape) else "full"
    pca = PCA(count, svd_solver=solver, random_state=seed).fit(rows)
    return Components(pca, np.asarray(pca.explained_variance_ratio_, np.float64))


def separating_line(features: object, bad: Bools, folds: Ids, *, components: int | None, seed: int = 0) -> Line:
    """Cross-validates linear discriminant analysis, on the first components or on all features.

    The components are fitted anew without the fold that is held out.

    Args:
        features: (N, D).
        bad: (N,) bool, both classes.
        folds: int64 (N,) from `data.splits.kfold`.
        components: How many; None for all features, standardised, with a covariance shrunken after Ledoit and Wolf.
        seed: Of the randomised solver.
    """
    rows, areas, right = checked_rows(features), [], []
    for fold in np.unique(folds[folds >= 0]):
        teach, hold = teaches(folds, int(fold)), folds == fold
        if bad[teach].all() or not bad[teach].any():
            continue  # the fold holds every example of a class
        learned, asked = rows[teach], rows[hold]
        if components is not None:
            pca = PCA(components, svd_solver="randomized", random_state=seed).fit(learned)
            learned, asked = pca.transform(learned), pca.transform(asked)
            line = LinearDiscriminantAnalysis()
        else:
            line = make_pipeline(StandardScaler(), ShrunkenLda())
        line.fit(learned, bad[teach].astype(np.uint8))
        margins = margins_of(line, asked)
        areas.append(auroc(bad[hold], margins))
        right.append((margins > 0) == bad[hold])
    known = [area for area in areas if area is not None]
    return Line(fmean(known) if known else 0.5, float(np.concatenate(right).mean()) if right else 0.5)


def line_through(points: Floats, bad: Bools) -> tuple[float, float, float] | None:
    """Returns a, b, c of the line a x + b y + c = 0 that separates points (N, 2), or None with one class only."""
    if bad.all() or not bad.any():
        return None
    line = LinearDiscriminantAnalysis().fit(points, bad.astype(np.uint8))
    return float(line.coef_[0, 0]), float(line.coef_[0, 1]), float(line.intercept_[0])

"""Linear discriminant analysis with a shrunken covariance: there are often more features than images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.covariance import empirical_covariance, ledoit_wolf, shrunk_covariance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from knowngood.models.classical.contract import Conventional, Margins, Rows, Setting


class ShrunkenLda(ClassifierMixin, BaseEstimator):
    """The plane w.x + b = 0 with w = S^-1 (m1 - m0), S the classes' shrunken covariances weighted by their shares.

    Scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr")` gives the same plane by a singular value decomposition,
    which takes a minute where this takes a second: a shrunken covariance is positive definite, so Cholesky will do.

    Args:
        shrinkage: Share of the mean variance in S, 0..1; "auto" is Ledoit and Wolf's.

    Reference:
        Ledoit and Wolf 2004; Hastie et al. 2009, section 4.3.
    """

    def __init__(self, shrinkage: float | Literal["auto"] = "auto") -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Rows, y: npt.ArrayLike) -> ShrunkenLda:
        """Fits on features (N, D) and labels (N,) of 0 and 1."""
        rows, bad = np.asarray(X, np.float64), np.asarray(y, bool)
        means, covariance = [], np.zeros((rows.shape[1], rows.shape[1]))
        for own in (~bad, bad):
            means.append(rows[own].mean(axis=0))
            covariance += own.mean() * self._covariance(rows[own])
        covariance.flat[:: len(covariance) + 1] += 1e-12 * max(float(np.trace(covariance)), 1e-12)  # equal images
        self.weights_ = solve(covariance, means[1] - means[0], assume_a="pos", check_finite=False)
        middle = float(self.weights_ @ (means[0] + means[1])) / 2
        self.offset_ = float(np.log(bad.mean() / (~bad).mean())) - middle
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, X: Rows) -> Margins:
        """Returns log P(bad) / P(good), (N,)."""
        return np.asarray(np.asarray(X, np.float64) @ self.weights_ + self.offset_, np.float64)

    def predict(self, X: Rows) -> npt.NDArray[np.int64]:
        """Returns the likelier label, (N,)."""
        return (self.decision_function(X) > 0).astype(np.int64)

    def _covariance(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if len(rows) < 2:  # one image does not vary
            return np.zeros((rows.shape[1], rows.shape[1]))
        if self.shrinkage == "auto":
            return np.asarray(ledoit_wolf(rows)[0], np.float64)
        return np.asarray(shrunk_covariance(empirical_covariance(rows), float(self.shrinkage)), np.float64)


class Lda(Conventional):
    """One plane through standardised features; the shrinkage is chosen."""

    summary = "linear discriminant analysis, shrunken covariance"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"shrinkage": shrinkage} for shrinkage in ("auto", 0.3, 0.8)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return make_pipeline(StandardScaler(), ShrunkenLda(setting["shrinkage"]))

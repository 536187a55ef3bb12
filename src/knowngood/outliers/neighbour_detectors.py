"""Detectors by distance and isolation: k-th neighbour, Mahalanobis, isolation forest."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from scipy.linalg import solve_triangular
from sklearn.ensemble import IsolationForest

from knowngood.errors import DataError
from knowngood.outliers import detectors as contract
from knowngood.outliers.detectors import Detector, Features, Scores, checked_features, fraction_threshold, row_blocks
from knowngood.outliers.neighbours import Neighbours


class Parameters(contract.Parameters):
    """Parameters of the neighbour search; it draws nothing at random."""

    k: int = Field(default=5, ge=1, description="Which nearest neighbour's distance is the score.")
    contamination: float = Field(default=0.01, gt=0, le=0.5, description="Share of the fitted images flagged.")


class NearestNeighbours(Detector):
    """score = Euclidean distance to the k-th nearest fitted row.

    The threshold is a quantile of the fitted rows' distances to each *other*; `score` of a fitted row counts the
    row itself as its first neighbour, `fit_score` does not.

    Reference:
        Ramaswamy et al. 2000, definition 2.1.
    """

    fields = Parameters
    order_free = True
    parameters: Parameters

    def fit_rows(self, rows: Features) -> None:
        if len(rows) <= self.parameters.k:
            raise DataError(
                f"{len(rows)} images are too few for k={self.parameters.k}.",
                expected="more images than k",
                fix="Add images, or choose a smaller k.",
            )
        self.neighbours_ = Neighbours(rows)
        self.own_score_ = self._distances(rows, leave_out=True)
        self.threshold_ = fraction_threshold(self.own_score_, self.parameters.contamination)

    def score_rows(self, rows: Features) -> Scores:
        return self._distances(rows, leave_out=False)

    def fit_score(self, features: Any) -> Scores:
        """Fits, and returns each row's distance to its k-th nearest *other* row, (N,) float64."""
        return self.fit(checked_features(features)).own_score_

    def _distances(self, rows: Features, *, leave_out: bool) -> Scores:
        owner = np.arange(len(rows)) if leave_out else None
        return self.neighbours_.nearest(rows, self.parameters.k, owner=owner)[0][:, -1]


_TINY = 1e-12


class MahalanobisParameters(contract.Parameters):
    """Parameters of the distance; it draws nothing at random."""

    contamination: float = Field(default=0.01, gt=0, le=0.5, description="Share of the fitted images flagged.")


class Mahalanobis(Detector):
    """score = sqrt((x - m)^T C^-1 (x - m)), C = (1 - a) S + a tr(S)/D I, with a chosen by Ledoit and Wolf.

    The threshold is a quantile of leave-one-out distances (mean and S without the row; closed form): with few
    images, distances of the fitted rows themselves are far too small.

    Reference:
        Ledoit & Wolf 2004, equation 14; Sherman-Morrison for leaving one out.
    """

    fields = MahalanobisParameters
    order_free = True
    parameters: MahalanobisParameters

    def fit_rows(self, rows: Features) -> None:
        count, width = rows.shape
        self.mean_ = rows.mean(axis=0, dtype=np.float64)
        scatter, fourth = np.zeros((width, width)), 0.0
        for block in row_blocks(rows):
            x = np.asarray(rows[block], np.float64) - self.mean_
            scatter += x.T @ x
            fourth += float(np.square(np.square(x).sum(axis=1)).sum())
        covariance = scatter / count
        self.shrinkage_ = _ledoit_wolf(covariance, fourth / count, count)
        self.root_ = _root(covariance, self.shrinkage_)
        self.own_score_ = self._without_itself(rows, covariance)
        self.threshold_ = fraction_threshold(self.own_score_, self.parameters.contamination)

    def score_rows(self, rows: Features) -> Scores:
        return np.sqrt(_squares(rows, self.mean_, self.root_))

    def fit_score(self, features: Any) -> Scores:
        """Fits, and returns each row's distance from the mean and covariance of all *other* rows, (N,) float64."""
        return self.fit(features).own_score_

    def _without_itself(self, rows: Features, covariance: Scores) -> Scores:
        """Returns leave-one-out distances at the shrinkage of all rows.

        S without row i is n/(n-1) S - n/(n-1)^2 z z^T and x - mean becomes n/(n-1) z, with z = x_i - m.
        """
        n = len(rows)
        squares = _squares(rows, self.mean_, _root(covariance * n / (n - 1), self.shrinkage_, np.trace(covariance)))
        lost = (1 - self.shrinkage_) * n / (n - 1) ** 2 * squares
        return n / (n - 1) * np.sqrt(squares / np.maximum(1 - lost, _TINY))


def _ledoit_wolf(covariance: Scores, fourth: float, count: int) -> float:
    """Returns the shrinkage; `fourth` is the mean of |x - m|^4."""
    width = len(covariance)
    total = float(np.square(covariance).sum())
    scale = float(np.trace(covariance)) / width
    spread = (total - width * scale**2) / width  # squared distance of S to the sphere
    noise = (fourth - total) / count / width  # squared distance of S to the truth, estimated
    return 1.0 if spread <= 0 else float(np.clip(min(noise, spread) / spread, 0, 1))


def _root(covariance: Scores, shrinkage: float, trace: float | None = None) -> Scores:
    """Returns the lower Cholesky factor of the shrunk covariance."""
    width = len(covariance)
    scale = float(np.trace(covariance) if trace is None else trace) / width
    shrunk = (1 - shrinkage) * covariance
    # Features that never vary leave the matrix singular when hardly anything is shrunk.
    shrunk[np.diag_indices(width)] += max(shrinkage * scale, 1e-9 * scale, _TINY)
    return np.asarray(np.linalg.cholesky(shrunk))  # several times as fast as scipy's here


def _squares(rows: Features, mean: Scores, root: Scores) -> Scores:
    squares = np.empty(len(rows))
    for block in row_blocks(rows):
        x = np.asarray(rows[block], np.float64) - mean
        squares[block] = np.square(solve_triangular(root, x.T, lower=True, check_finite=False)).sum(axis=0)
    return squares


class ForestParameters(contract.Parameters):
    """Parameters of the forest."""

    contamination: float = Field(default=0.01, gt=0, le=0.5, description="Share of the fitted images flagged.")
    trees: int = Field(default=100, ge=1, description="Number of trees.")


class Forest(Detector):
    """score = 2^(-E[path length] / c(256)), in (0, 1]: few random cuts are enough to set an abnormal row apart.

    Reference:
        Liu et al. 2008, equation 2; scikit-learn's IsolationForest with 256 rows a tree.
    """

    fields = ForestParameters
    parameters: ForestParameters

    def fit_rows(self, rows: Features) -> None:
        settings = self.parameters
        forest = IsolationForest(
            n_estimators=settings.trees, contamination=settings.contamination, random_state=settings.seed
        )
        self.forest_ = forest.fit(rows)
        self.threshold_ = -float(forest.offset_)

    def score_rows(self, rows: Features) -> Scores:
        return -np.asarray(self.forest_.score_samples(rows), np.float64)

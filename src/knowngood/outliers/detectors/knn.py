"""Distance to the k-th nearest neighbour, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from knowngood.errors import DataError
from knowngood.outliers.detectors import contract
from knowngood.outliers.detectors.contract import Detector, Features, Scores, checked_features, fraction_threshold
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

    def learn(self, rows: Features) -> None:
        if len(rows) <= self.parameters.k:
            raise DataError(
                f"{len(rows)} images are too few for k={self.parameters.k}.",
                expected="more images than k",
                fix="Add images, or choose a smaller k.",
            )
        self.neighbours_ = Neighbours(rows)
        self.own_score_ = self._distances(rows, leave_out=True)
        self.threshold_ = fraction_threshold(self.own_score_, self.parameters.contamination)

    def judge(self, rows: Features) -> Scores:
        return self._distances(rows, leave_out=False)

    def fit_score(self, features: Any) -> Scores:
        """Fits, and returns each row's distance to its k-th nearest *other* row, (N,) float64."""
        return self.fit(checked_features(features)).own_score_

    def _distances(self, rows: Features, *, leave_out: bool) -> Scores:
        owner = np.arange(len(rows)) if leave_out else None
        return self.neighbours_.nearest(rows, self.parameters.k, owner=owner)[0][:, -1]

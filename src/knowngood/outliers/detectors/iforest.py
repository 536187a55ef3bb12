"""Isolation Forest, as in the study; scores and decisions are scikit-learn's."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from sklearn.ensemble import IsolationForest

from knowngood.outliers.detectors import contract
from knowngood.outliers.detectors.contract import Detector, Features, Scores


class Parameters(contract.Parameters):
    """Parameters of the forest."""

    contamination: float = Field(default=0.01, gt=0, le=0.5, description="Share of the fitted images flagged.")
    trees: int = Field(default=100, ge=1, description="Number of trees.")


class Forest(Detector):
    """score = 2^(-E[path length] / c(256)), in (0, 1]: few random cuts are enough to set an abnormal row apart.

    Reference:
        Liu et al. 2008, equation 2; scikit-learn's IsolationForest with 256 rows a tree.
    """

    fields = Parameters
    parameters: Parameters

    def learn(self, rows: Features) -> None:
        settings = self.parameters
        forest = IsolationForest(
            n_estimators=settings.trees, contamination=settings.contamination, random_state=settings.seed
        )
        self.forest_ = forest.fit(rows)
        self.threshold_ = -float(forest.offset_)

    def judge(self, rows: Features) -> Scores:
        return -np.asarray(self.forest_.score_samples(rows), np.float64)

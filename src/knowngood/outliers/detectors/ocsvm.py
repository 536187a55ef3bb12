"""One-class support-vector machine with an RBF kernel, as in the study; the decisions are scikit-learn's."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from sklearn.svm import OneClassSVM

from knowngood.outliers.blocks import row_blocks
from knowngood.outliers.detectors import contract
from knowngood.outliers.detectors.contract import Detector, Features, Scores


class Parameters(contract.Parameters):
    """Parameters of the one-class machine; it draws nothing at random."""

    nu: float = Field(default=0.01, gt=0, le=1, description="Upper bound on the share of fitted images flagged.")


class OneClassSvm(Detector):
    """score = -sum_i alpha_i k(x_i, x), k(x, y) = exp(-gamma |x - y|^2), gamma = 1 / (D var(X)); threshold = -rho.

    With few images it is blind: an image alone in its place is its own support (alpha is at most 1), and is flagged
    only where the others' share of nu N alphas outweighs that, from about a thousand images on at nu = 0.01. The
    sign of rows *on* the margin (about nu N of them) is left to the solver's tolerance, here and in scikit-learn.

    Reference:
        Schoelkopf et al. 2001, equations 3.4 and 3.10 (ours has scikit-learn's scaling, sum alpha = nu N). Prediction
        is one matrix product a block, in float64: rows on the margin sit at rho to within the solver's tolerance.
    """

    fields = Parameters
    parameters: Parameters

    def learn(self, rows: Features) -> None:
        exact = np.asarray(rows, np.float64)  # scikit-learn would make the same copy
        variance = float(exact.var())
        self.gamma_ = 1 / (exact.shape[1] * variance) if variance else 1.0
        machine = OneClassSVM(nu=self.parameters.nu, gamma=self.gamma_).fit(exact)
        self.support_ = np.asarray(machine.support_vectors_)
        self.alpha_ = np.asarray(machine.dual_coef_[0])
        rho = float(machine.offset_[0])
        self.threshold_ = float(np.nextafter(-rho, -np.inf))  # scikit-learn calls a row exactly on the margin outside

    def judge(self, rows: Features) -> Scores:
        return -rbf_sum(rows, self.support_, self.alpha_, self.gamma_)


def rbf_sum(rows: Features, support: Scores, alpha: Scores, gamma: float) -> Scores:
    """Returns sum_i alpha_i exp(-gamma |x_i - x|^2) for each row x, (N,) float64, by blocks of matrix products."""
    sums = np.empty(len(rows))
    norms = np.square(support).sum(axis=1)
    for block in row_blocks(rows, max(len(support), rows.shape[1])):
        x = np.asarray(rows[block], np.float64)
        squared = np.square(x).sum(axis=1)[:, None] + norms - 2 * (x @ support.T)
        sums[block] = np.exp(-gamma * np.maximum(squared, 0)) @ alpha
    return sums

"""The one-class machine of `ocsvm` for many images: solved on the images that can matter, checked on all."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from sklearn.svm import OneClassSVM

from knowngood.outliers.blocks import row_blocks
from knowngood.outliers.detectors import ocsvm
from knowngood.outliers.detectors.contract import Detector, Features, Scores
from knowngood.outliers.detectors.ocsvm import rbf_sum

_SOLVER = 1e-3  # scikit-learn's tolerance on a row's score
_FIRST = 4  # the first chunk holds this many times nu N rows; about 2 nu N become support vectors
_ROUNDS = 20


class Parameters(ocsvm.Parameters):
    """Parameters of the one-class machine and of where it starts."""

    start: int = Field(default=1000, ge=2, description="Random images whose machine picks the first chunk.")


class ChunkingSvm(Detector):
    """The same problem as `ocsvm`, solved without looking at images that lie well inside.

    Rows inside the margin have alpha = 0, so the problem is solved on a chunk of the most abnormal rows with the
    same sum of alphas; rows outside the chunk that turn out beyond the margin are added, until there are none.
    Scores equal `ocsvm`'s to the solver's tolerance (1e-3), at a small part of the time.

    Reference:
        Vapnik 1982 (chunking) as in Osuna et al. 1997, section 3; Schoelkopf et al. 2001.
    """

    fields = Parameters
    parameters: Parameters

    def learn(self, rows: Features) -> None:
        count, nu = len(rows), self.parameters.nu
        self.gamma_ = scale_gamma(rows)
        some = np.random.default_rng(self.parameters.seed).permutation(count)[: self.parameters.start]
        self._solve(rows[np.sort(some)], nu)
        scores = self.judge_all(rows)
        chunk = np.zeros(count, bool)
        chunk[np.argsort(-scores, kind="stable")[: max(2, int(np.ceil(_FIRST * nu * count)))]] = True
        for _ in range(_ROUNDS):
            inside = np.flatnonzero(chunk)
            self._solve(rows[inside], min(1.0, nu * count / len(inside)))
            beyond = (self.judge_all(rows) > self.threshold_ + _SOLVER) & ~chunk
            if not beyond.any():
                break
            chunk |= beyond

    def judge(self, rows: Features) -> Scores:
        return -rbf_sum(rows, self.support_, self.alpha_, self.gamma_)

    def _solve(self, rows: Features, nu: float) -> None:
        machine = OneClassSVM(nu=nu, gamma=self.gamma_).fit(rows)
        self.support_ = np.asarray(machine.support_vectors_)
        self.alpha_ = np.asarray(machine.dual_coef_[0])
        self.threshold_ = float(np.nextafter(-float(machine.offset_[0]), -np.inf))


def scale_gamma(rows: Features) -> float:
    """Returns scikit-learn's gamma="scale", 1 / (D var(X)), without a copy of all rows."""
    mean = float(rows.mean(dtype=np.float64))
    total = sum(float(np.square(np.asarray(rows[b], np.float64) - mean).sum()) for b in row_blocks(rows))
    variance = total / rows.size
    return 1 / (rows.shape[1] * variance) if variance else 1.0

"""The one-class machine of `ocsvm` in time linear in the images: an approximate kernel map and a linear machine."""

from __future__ import annotations

import warnings

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM

from knowngood.outliers.blocks import row_blocks
from knowngood.outliers.detectors import ocsvm
from knowngood.outliers.detectors.contract import Detector, Features, Scores, fraction_threshold
from knowngood.outliers.detectors.ocsvm_chunking import scale_gamma


class Parameters(ocsvm.Parameters):
    """Parameters of the one-class machine and of its approximation."""

    landmarks: int = Field(default=256, ge=2, description="Random images that span the kernel map.")
    taught: int = Field(default=100_000, ge=2, description="Most images that the linear machine is taught on.")


class NystroemSvm(Detector):
    """score = -w . phi(x), phi the Nystroem map of the RBF kernel; the threshold flags the share nu.

    The threshold is the quantile of all fitted rows, as nu is of the exact machine: the offset that stochastic
    gradients find flags anything from none to a tenth. For a million images; `ocsvm_chunking` is closer to the
    exact machine where minutes are at hand (benchmarks/results/outliers_scale.json has the agreement).

    Reference:
        Williams & Seeger 2001 (map); scikit-learn's SGDOneClassSVM, averaged.
    """

    fields = Parameters
    parameters: Parameters

    def learn(self, rows: Features) -> None:
        settings, count = self.parameters, len(rows)
        order = np.random.default_rng(settings.seed).permutation(count)
        taught = np.sort(order[: settings.taught])
        landmarks = rows[np.sort(order[: settings.landmarks])]
        self.map_ = Nystroem(gamma=scale_gamma(rows), n_components=len(landmarks), random_state=0).fit(landmarks)
        machine = SGDOneClassSVM(nu=settings.nu, max_iter=20, tol=1e-5, average=True, random_state=settings.seed)
        mapped = np.concatenate([self._mapped(rows[taught[b]]) for b in row_blocks(taught, rows.shape[1])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the averaged weights settle long before the loss
            machine.fit(mapped)
        self.weights_ = np.asarray(machine.coef_, np.float64).ravel()
        self.threshold_ = fraction_threshold(self.judge_all(rows), settings.nu)

    def judge(self, rows: Features) -> Scores:
        return -(self._mapped(rows) @ self.weights_)

    def _mapped(self, rows: Features) -> Scores:
        return np.asarray(self.map_.transform(np.asarray(rows, np.float64)), np.float64)

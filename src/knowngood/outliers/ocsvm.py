"""One-class support-vector machine with an RBF kernel, as in the study; the decisions are scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.svm import OneClassSVM

from knowngood.models.distances import squared_distances
from knowngood.outliers import detectors as contract
from knowngood.outliers.detectors import Detector, Features, Scores, fraction_threshold, row_blocks


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

    def fit_rows(self, rows: Features) -> None:
        exact = np.asarray(rows, np.float64)  # scikit-learn would make the same copy
        variance = float(exact.var())
        self.gamma_ = 1 / (exact.shape[1] * variance) if variance else 1.0
        machine = OneClassSVM(nu=self.parameters.nu, gamma=self.gamma_).fit(exact)
        self.support_ = np.asarray(machine.support_vectors_)
        self.alpha_ = np.asarray(machine.dual_coef_[0])
        rho = float(machine.offset_[0])
        self.threshold_ = float(np.nextafter(-rho, -np.inf))  # in scikit-learn a row exactly on the boundary is outside

    def score_rows(self, rows: Features) -> Scores:
        return -rbf_sum(rows, self.support_, self.alpha_, self.gamma_)


def rbf_sum(rows: Features, support: Scores, alpha: Scores, gamma: float) -> Scores:
    """Returns sum_i alpha_i exp(-gamma |x_i - x|^2) for each row x, (N,) float64, by blocks of matrix products."""
    sums = np.empty(len(rows))
    norms = np.square(support).sum(axis=1)
    for block in row_blocks(rows, max(len(support), rows.shape[1])):
        x = np.asarray(rows[block], np.float64)
        sums[block] = np.exp(-gamma * squared_distances(x, support, norms)) @ alpha
    return sums


_SOLVER = 1e-3  # scikit-learn's tolerance on a row's score
_FIRST = 4  # the first chunk holds this many times nu N rows; about 2 nu N become support vectors
_ROUNDS = 20


class ChunkedParameters(Parameters):
    """Parameters of the one-class machine and of where it starts."""

    start: int = Field(default=1000, ge=2, description="Random images whose machine picks the first chunk.")


class ChunkingSvm(Detector):
    """The same problem as `ocsvm`, solved without the images that lie well inside.

    Rows inside the margin have alpha = 0, so the problem is solved on a chunk of the most abnormal rows with the
    same sum of alphas; rows outside the chunk that turn out beyond the margin are added, until there are none.
    Scores equal `ocsvm`'s to the solver's tolerance (1e-3), at a small part of the time.

    Reference:
        Vapnik 1982 (chunking) as in Osuna et al. 1997, section 3; Schoelkopf et al. 2001.
    """

    fields = ChunkedParameters
    parameters: ChunkedParameters

    def fit_rows(self, rows: Features) -> None:
        count, nu = len(rows), self.parameters.nu
        self.gamma_ = scale_gamma(rows)
        some = np.random.default_rng(self.parameters.seed).permutation(count)[: self.parameters.start]
        self._solve(rows[np.sort(some)], nu)
        scores = self.score_blocks(rows)
        chunk = np.zeros(count, bool)
        chunk[np.argsort(-scores, kind="stable")[: max(2, int(np.ceil(_FIRST * nu * count)))]] = True
        for _ in range(_ROUNDS):
            inside = np.flatnonzero(chunk)
            self._solve(rows[inside], min(1.0, nu * count / len(inside)))
            beyond = (self.score_blocks(rows) > self.threshold_ + _SOLVER) & ~chunk
            if not beyond.any():
                break
            chunk |= beyond

    def score_rows(self, rows: Features) -> Scores:
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


class NystroemParameters(Parameters):
    """Parameters of the one-class machine and of its approximation."""

    landmarks: int = Field(default=256, ge=2, description="Random images that span the kernel map.")
    most: int = Field(default=100_000, ge=2, description="Largest number of images that the linear model is fitted on.")


class NystroemSvm(Detector):
    """score = -w . phi(x), phi the Nystroem map of the RBF kernel; the threshold flags the share nu.

    The threshold is the quantile of all fitted rows, as nu is of the exact machine: the offset that stochastic
    gradients find flags anything from none to a tenth. For a million images; `ocsvm_chunking` is closer to the
    exact machine where minutes are at hand (benchmarks/results/outliers_scale.json has the agreement).

    Reference:
        Williams & Seeger 2001 (map); scikit-learn's SGDOneClassSVM, averaged.
    """

    fields = NystroemParameters
    parameters: NystroemParameters

    def fit_rows(self, rows: Features) -> None:
        settings, count = self.parameters, len(rows)
        order = np.random.default_rng(settings.seed).permutation(count)
        chosen = np.sort(order[: settings.most])
        landmarks = rows[np.sort(order[: settings.landmarks])]
        self.map_ = Nystroem(gamma=scale_gamma(rows), n_components=len(landmarks), random_state=0).fit(landmarks)
        machine = SGDOneClassSVM(nu=settings.nu, max_iter=20, tol=1e-5, average=True, random_state=settings.seed)
        mapped = np.concatenate([self._mapped(rows[chosen[b]]) for b in row_blocks(chosen, rows.shape[1])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the averaged weights settle long before the loss
            machine.fit(mapped)
        self.weights_ = np.asarray(machine.coef_, np.float64).ravel()
        self.threshold_ = fraction_threshold(self.score_blocks(rows), settings.nu)

    def score_rows(self, rows: Features) -> Scores:
        return -(self._mapped(rows) @ self.weights_)

    def _mapped(self, rows: Features) -> Scores:
        return np.asarray(self.map_.transform(np.asarray(rows, np.float64)), np.float64)

"""Conventional classifiers on deep features; add a class and one line to register another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.covariance import empirical_covariance, ledoit_wolf, shrunk_covariance
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from knowngood.data.splits import Ids, trains_on
from knowngood.errors import DataError
from knowngood.metrics.figures import auroc
from knowngood.progress import track

Rows: TypeAlias = npt.NDArray[np.float32]
RawScores: TypeAlias = npt.NDArray[np.float64]
Setting: TypeAlias = Mapping[str, Any]


class Conventional(ABC):
    """One kind of classifier; a subclass says how to build it and what cross-validation may choose from.

    Attributes:
        summary: One line for tables and help.
        most_rows: More rows than these are drawn from, bad ones first; None where any number can be taken.
    """

    summary: ClassVar[str]
    most_rows: ClassVar[int | None] = None

    @abstractmethod
    def settings(self, rows: int) -> Sequence[Setting]:
        """Returns what cross-validation may choose from, the most trusted first: JSON types by name.

        Args:
            rows: How many train where the largest fold is held out.
        """

    @abstractmethod
    def build(self, setting: Setting, width: int, seed: int) -> Any:
        """Returns a scikit-learn classifier with `decision_function` or `predict_proba`, not fitted.

        Args:
            setting: One of `settings`.
            width: Number of features.
            seed: Of whatever it draws.
        """


def raw_scores_of(estimator: Any, features: Rows) -> RawScores:
    """Returns how far each image lies on the bad side, float64 (N,): the decision function, else P(bad).

    Args:
        estimator: Fitted on labels 0 and 1.
        features: (N, D), with the fitted D.
    """
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(features), np.float64)
    return np.asarray(estimator.predict_proba(features)[:, 1], np.float64)


def checked_rows(features: Any, width: int | None = None) -> Rows:
    """Returns features as float32 (N, D).

    Raises:
        DataError: They have another shape, hold NaN or infinity, or are not of the fitted width.
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise DataError(f"Features have shape {rows.shape} and type {rows.dtype}.", expected="float32 (N, D)")
    if width is not None and rows.shape[1] != width:
        raise DataError(
            f"Features have length {rows.shape[1]}, the classifier was fitted on length {width}.",
            expected="features of the same backbone and image size",
            fix="Make the features anew with the backbone that was used for fitting.",
        )
    if not np.isfinite(rows).all():
        raise DataError("The features hold NaN or infinity.", fix="Leave out the images that cannot be decoded.")
    return np.asarray(rows, np.float32)


MOST_ROWS = 8000  # the kernel matrix of more would take minutes and over 0.5 GB


class Svm(Conventional):
    """One-norm soft margin, standardised features, C and kernel width chosen."""

    summary = "support-vector machine, RBF kernel"
    most_rows = MOST_ROWS

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"C": cost, "width": width} for width in (1.0, 0.5) for cost in (1.0, 5.0, 25.0)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        """Takes the kernel as a function: its products go through BLAS, many times faster than libsvm's own."""
        kernel = partial(rbf_kernel, gamma=setting["width"] / width)  # width 1 is gamma="scale" once standardised
        return make_pipeline(
            StandardScaler(), SVC(C=setting["C"], kernel=kernel, class_weight="balanced", cache_size=500)
        )


_TREES = 300


class Forest(Conventional):
    """Trees on random parts of images and features; the size of leaves is chosen."""

    summary = f"random forest of {_TREES} trees"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"min_samples_leaf": leaf} for leaf in (1, 5)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return RandomForestClassifier(
            _TREES,
            min_samples_leaf=setting["min_samples_leaf"],
            class_weight="balanced_subsample",
            n_jobs=-1,
            random_state=seed,
        )


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

    def decision_function(self, X: Rows) -> RawScores:
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


class Logistic(Conventional):
    """L2 penalty on standardised features; C is chosen."""

    summary = "logistic regression"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"C": cost} for cost in (1e-3, 1e-4, 1e-2, 1e-1)]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=setting["C"], class_weight="balanced", max_iter=3000)
        )


class Neighbours(Conventional):
    """P(bad) among the k nearest by angle; k is chosen."""

    summary = "k nearest neighbours"

    def settings(self, rows: int) -> Sequence[Setting]:
        return [{"neighbours": count} for count in (15, 5, 45) if count < rows] or [{"neighbours": 1}]

    def build(self, setting: Setting, width: int, seed: int) -> Any:
        return make_pipeline(Normalizer(), KNeighborsClassifier(setting["neighbours"], weights="distance"))


Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FittedClassifier:
    """A fitted classifier and how its setting was found.

    Attributes:
        estimator: Of scikit-learn.
        setting: That cross-validation chose.
        auroc: Mean over the folds of rows scored by a machine that had not seen them; the best of `table`.
        table: One row a setting: the setting, and its cross-validated AUC.
        width: Number of features.
        rows: How many rows it was fitted on.
    """

    estimator: Any
    setting: Setting
    auroc: float
    table: list[dict[str, Any]]
    width: int
    rows: int

    def raw_scores(self, features: Any) -> RawScores:
        """Returns how far images lie on the bad side, float64 (N,), higher = more likely bad.

        Raises:
            DataError: The features are not like the fitted ones.
        """
        return raw_scores_of(self.estimator, checked_rows(features, self.width))


def fit_classifier(kind: Conventional, features: Any, bad: Bools, folds: Ids, seed: int = 0) -> FittedClassifier:
    """Fits one classifier.

    Args:
        kind: What to fit.
        features: (N, D) of the training rows.
        bad: (N,) bool.
        folds: int64 (N,), from `data.splits.kfold`: held out there, or negative for rows that only train.
        seed: Of what the classifier draws, and of which rows train when there are too many.

    Raises:
        DataError: There is one class only, or the features cannot be used.
    """
    rows = checked_rows(features)
    _check_classes(bad, len(rows))
    chosen = at_most(kind.most_rows, bad, np.random.default_rng(seed))
    rows, bad, folds = rows[chosen], bad[chosen], folds[chosen]
    numbers = np.unique(folds[folds >= 0])
    smallest = min((int(trains_on(folds, int(fold)).sum()) for fold in numbers), default=len(rows))
    table = []
    for setting in track(kind.settings(smallest), kind.summary):
        areas = []  # a fold at a time: raw_scores of different machines need not be of one scale
        for fold in numbers:
            train, hold = trains_on(folds, int(fold)), folds == fold
            if bad[train].any() and not bad[train].all():  # else the fold holds every example of a class
                raw_scores = raw_scores_of(_fitted(kind, setting, rows[train], bad[train], seed), rows[hold])
                areas.append(auroc(bad[hold], raw_scores))
        known = [area for area in areas if area is not None]
        table.append({**setting, "auroc": fmean(known) if known else 0.5})
    best = max(range(len(table)), key=lambda i: table[i]["auroc"])
    setting = kind.settings(smallest)[best]
    estimator = _fitted(kind, setting, rows, bad, seed)
    return FittedClassifier(estimator, setting, table[best]["auroc"], table, rows.shape[1], len(rows))


def _fitted(kind: Conventional, setting: Setting, rows: Rows, bad: Bools, seed: int) -> Any:
    return kind.build(setting, rows.shape[1], seed).fit(rows, bad.astype(np.uint8))


def _check_classes(bad: Bools, count: int) -> None:
    if len(bad) != count:
        raise DataError(f"There are {count} rows of features and {len(bad)} labels.", expected="one label a row")
    if bad.all() or not bad.any():
        raise DataError(
            f"All {count} training images are {'bad' if bad.all() and count else 'good'}.",
            expected="good and bad images",
            fix="Add images of the other class.",
        )


def at_most(most: int | None, bad: Bools, random: np.random.Generator) -> Ids:
    """Returns which rows (M,) train: all, or `most` of them drawn, half of them bad where there are so many."""
    if most is None or len(bad) <= most:
        return np.arange(len(bad), dtype=np.int64)
    bads = random.permutation(np.flatnonzero(bad))[: max(most // 2, most - int((~bad).sum()))]
    goods = random.permutation(np.flatnonzero(~bad))[: most - len(bads)]
    return np.sort(np.concatenate([bads, goods])).astype(np.int64)


Floats = npt.NDArray[np.float64]
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
        train, hold = trains_on(folds, int(fold)), folds == fold
        if bad[train].all() or not bad[train].any():
            continue  # the fold holds every example of a class
        inside, outside = rows[train], rows[hold]
        if components is not None:
            pca = PCA(components, svd_solver="randomized", random_state=seed).fit(inside)
            inside, outside = pca.transform(inside), pca.transform(outside)
            line = LinearDiscriminantAnalysis()
        else:
            line = make_pipeline(StandardScaler(), ShrunkenLda())
        line.fit(inside, bad[train].astype(np.uint8))
        raw_scores = raw_scores_of(line, outside)
        areas.append(auroc(bad[hold], raw_scores))
        right.append((raw_scores > 0) == bad[hold])
    known = [area for area in areas if area is not None]
    return Line(fmean(known) if known else 0.5, float(np.concatenate(right).mean()) if right else 0.5)


def line_through(points: Floats, bad: Bools) -> tuple[float, float, float] | None:
    """Returns a, b, c of the line a x + b y + c = 0 that separates points (N, 2), or None with one class only."""
    if bad.all() or not bad.any():
        return None
    line = LinearDiscriminantAnalysis().fit(points, bad.astype(np.uint8))
    return float(line.coef_[0, 0]), float(line.coef_[0, 1]), float(line.intercept_[0])

"""Conventional classifiers and components against scikit-learn used by hand."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.models.classical import (
    ShrunkenLda,
    fit_classifier,
    fit_components,
    line_through,
    separating_line,
)
from knowngood.training.config import CLASSIFIERS


def made(count: int = 120, width: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bad = rng.random(count) < 0.3
    rows = rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) / 6 + 0.5 * bad[:, None]
    return rows.astype(np.float32), bad, np.arange(count) % 4


@pytest.mark.parametrize(("count", "width"), [(120, 40), (40, 90)])  # more features than images, too
@pytest.mark.parametrize("shrinkage", ["auto", 0.3])
def test_the_plane_is_scikit_learns(count, width, shrinkage):
    rows, bad, _ = made(count, width)
    theirs = LinearDiscriminantAnalysis("lsqr", covariance_estimator=LedoitWolf())
    if shrinkage != "auto":
        theirs = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage)
    theirs.fit(rows.astype(float), bad)
    ours = ShrunkenLda(shrinkage).fit(rows, bad)
    np.testing.assert_allclose(
        ours.decision_function(rows), theirs.decision_function(rows.astype(float)), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows.astype(float)))


def test_the_kernel_machine_is_scikit_learns():
    rows, bad, folds = made()
    fitted = fit_classifier(CLASSIFIERS.get("svm")(), rows, bad, folds)
    gamma = fitted.setting["width"] / rows.shape[1]
    theirs = make_pipeline(StandardScaler(), SVC(C=fitted.setting["C"], gamma=gamma, class_weight="balanced"))
    theirs.fit(rows, bad)
    np.testing.assert_allclose(fitted.raw_scores(rows), theirs.decision_function(rows), atol=2e-3)


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_cross_validation_is_scikit_learns(name):
    rows, bad, folds = made()
    kind = CLASSIFIERS.get(name)()
    fitted = fit_classifier(kind, rows, bad, folds, seed=3)
    estimator = kind.build(fitted.setting, rows.shape[1], 3)
    theirs = cross_val_score(estimator, rows, bad.astype(int), scoring="roc_auc", cv=PredefinedSplit(folds))
    assert fitted.auroc == pytest.approx(theirs.mean(), abs=1e-9)


def test_components_are_scikit_learns_up_to_sign():
    rows, _, _ = made(200, 60)
    ours = fit_components(rows)
    theirs = PCA(50, svd_solver="full").fit(rows)
    np.testing.assert_allclose(ours.explained[:10], theirs.explained_variance_ratio_[:10], rtol=2e-2)
    np.testing.assert_allclose(np.abs(ours.project(rows)), np.abs(theirs.transform(rows)[:, :2]), atol=2e-2)


def test_the_line_is_cross_validated():
    rows, bad, folds = made()
    line = separating_line(rows, bad, folds, components=2)
    pipeline = make_pipeline(PCA(2, svd_solver="randomized", random_state=0), LinearDiscriminantAnalysis())
    for scoring, ours in (("roc_auc", line.auroc), ("accuracy", line.accuracy)):
        theirs = cross_val_score(pipeline, rows, bad.astype(int), scoring=scoring, cv=PredefinedSplit(folds))
        assert ours == pytest.approx(theirs.mean(), abs=1e-6)
    assert separating_line(rows, bad, folds, components=None).auroc > line.auroc


def test_the_drawn_line_lies_between_the_classes():
    rng = np.random.default_rng(0)
    bad = np.arange(100) < 50
    points = rng.normal(size=(100, 2)) + np.where(bad[:, None], [4, 2], [-4, -2])
    a, b, c = line_through(points, bad)
    assert ((points @ [a, b] + c > 0) == bad).all()
    assert line_through(points, np.ones(100, bool)) is None

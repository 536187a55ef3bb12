"""Detectors against scikit-learn, against definitions written out, and the study's rule against both."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from knowngood.outliers.audit_table import study_outliers
from knowngood.outliers.detectors import DETECTORS


def features(count: int, width: int = 48, seed: int = 0, planted: int = 0) -> np.ndarray:
    """Rectified mixtures of a few ways of varying, like pooled activations; the first rows are strange."""
    random = np.random.default_rng(seed)
    ways = np.random.default_rng(99).normal(size=(10, width))
    rows = 0.5 * random.standard_t(8, (count, 10)) @ ways + 0.3 * random.normal(size=(count, width)) + 0.2
    rows[:planted] += random.normal(size=(planted, width)) * 4
    return np.maximum(rows, 0).astype(np.float32)


ROWS, NEW = features(700, planted=5), features(150, seed=1)


@pytest.mark.parametrize("nu", [0.01, 0.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_class_machine_decides_as_scikit_learn(nu, dtype):
    rows, new = ROWS.astype(dtype), NEW.astype(dtype)
    ours, oracle = DETECTORS.get("ocsvm")(nu=nu).fit(rows), OneClassSVM(nu=nu, gamma="scale").fit(rows)
    for some in (rows, new):
        assert np.array_equal(ours.predict(some), oracle.predict(some) == -1)
        assert np.allclose(ours.score(some), -oracle.score_samples(some), rtol=1e-10)
    assert ours.threshold_ == pytest.approx(-oracle.offset_[0], rel=1e-12)


def test_one_class_machine_on_rows_that_never_vary():
    rows = np.ones((20, 3), np.float32)
    ours, oracle = DETECTORS.get("ocsvm")().fit(rows), OneClassSVM(nu=0.01, gamma="scale").fit(rows)
    assert np.array_equal(ours.predict(rows), oracle.predict(rows) == -1)


@pytest.mark.parametrize("seed", [0, 7])
def test_forest_decides_as_scikit_learn(seed):
    ours = DETECTORS.get("iforest")(seed=seed).fit(ROWS)
    oracle = IsolationForest(contamination=0.01, random_state=seed).fit(ROWS)
    for some in (ROWS, NEW):
        assert np.array_equal(ours.predict(some), oracle.predict(some) == -1)
        assert np.array_equal(ours.score(some), -oracle.score_samples(some))


def test_outliers_of_the_study_are_what_both_flag():
    found = study_outliers(ROWS, seed=3)
    machine = OneClassSVM(nu=0.01, gamma="scale").fit(ROWS).predict(ROWS) == -1
    forest = IsolationForest(contamination=0.01, random_state=3).fit_predict(ROWS) == -1
    assert np.array_equal(found.ocsvm_outlier, machine)
    assert np.array_equal(found.iforest_outlier, forest)
    assert np.array_equal(found.outlier, machine & forest)
    assert found.outlier.any()


def test_neighbours_are_scikit_learns():
    search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(ROWS.astype(np.float64))
    ours = DETECTORS.get("knn")(k=5).fit(ROWS)
    assert np.allclose(ours.score(NEW), search.kneighbors(NEW)[0][:, -1], rtol=1e-5)
    assert np.allclose(ours.fit_score(ROWS), search.kneighbors()[0][:, -1], rtol=1e-5)


def test_copies_far_from_the_origin_are_at_distance_zero():
    """The squared difference as norms less a product would lose these distances in float32 rounding."""
    rows = 1000 + np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)
    rows[10] = rows[3]
    scores = DETECTORS.get("knn")(k=1).fit_score(rows)
    assert scores[3] == scores[10] == 0
    assert np.delete(scores, [3, 10]).min() > 5


@pytest.mark.parametrize("count", [700, 30])  # 30 rows of 48 features: no covariance could be inverted as it is
def test_mahalanobis_is_that_of_ledoit_and_wolf(count):
    ours, oracle = DETECTORS.get("mahalanobis")().fit(ROWS[:count]), LedoitWolf().fit(ROWS[:count].astype(np.float64))
    assert ours.shrinkage_ == pytest.approx(oracle.shrinkage_, rel=1e-6)
    assert np.allclose(ours.score(NEW), np.sqrt(oracle.mahalanobis(NEW)), rtol=1e-5)


def test_mahalanobis_leaves_each_row_out():
    rows = ROWS[:40].astype(np.float64)
    ours = DETECTORS.get("mahalanobis")().fit(rows)
    scale = np.trace(np.cov(rows.T, bias=True)) / rows.shape[1]
    for i in (0, 11, 39):
        rest = np.delete(rows, i, axis=0)
        shrunk = (1 - ours.shrinkage_) * np.cov(rest.T, bias=True) + ours.shrinkage_ * scale * np.eye(rows.shape[1])
        gap = rows[i] - rest.mean(axis=0)
        assert ours.own_score_[i] == pytest.approx(np.sqrt(gap @ np.linalg.solve(shrunk, gap)), rel=1e-6)


def test_patch_scores_and_weights_follow_the_paper():
    patches = np.random.default_rng(0).normal(size=(30, 4, 16)).astype(np.float32)
    ours = DETECTORS.get("patch_memory")(share=1.0, neighbourhood=3).fit(patches)
    memory = patches.reshape(-1, 16).astype(np.float64)
    new = np.random.default_rng(1).normal(size=(5, 4, 16)).astype(np.float32)
    gaps = np.linalg.norm(new[:, :, None] - memory[None, None], axis=3)
    assert np.allclose(ours.patch_scores(new), gaps.min(axis=2), rtol=1e-5)
    for image, score in enumerate(ours.score(new)):
        patch = gaps[image].min(axis=1).argmax()
        nearest = memory[gaps[image, patch].argmin()]
        crowd = np.argsort(np.linalg.norm(memory - nearest, axis=1))[:3]
        away = np.exp(np.linalg.norm(memory[crowd] - new[image, patch], axis=1))
        d = gaps[image, patch].min()
        assert score == pytest.approx((1 - np.exp(d) / away.sum()) * d, rel=1e-5)


def test_chunking_solves_the_same_problem():
    rows = features(3000, width=32, planted=20)
    exact, ours = DETECTORS.get("ocsvm")().fit(rows), DETECTORS.get("ocsvm_chunking")(start=200).fit(rows)
    gap = ours.score(rows) - ours.threshold_ - (exact.score(rows) - exact.threshold_)
    assert np.abs(gap).max() < 4e-3  # the solver's tolerance is 1e-3 on either side
    clear = np.abs(exact.score(rows) - exact.threshold_) > 4e-3
    assert np.array_equal(ours.predict(rows[clear]), exact.predict(rows[clear]))
    assert clear.mean() > 0.9


def test_nystroem_orders_nearly_as_the_exact_machine():
    rows = features(2000, width=32, planted=10)
    exact, ours = DETECTORS.get("ocsvm")().fit(rows), DETECTORS.get("ocsvm_nystroem")(landmarks=200).fit(rows)
    assert spearmanr(exact.score(rows), ours.score(rows))[0] > 0.7
    assert ours.predict(rows)[:10].all()
    assert ours.predict(rows).mean() == pytest.approx(0.01, abs=0.002)

"""The SVM head as tensors equals scikit-learn's SVC on the same rows and settings."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from knowngood.training.svm_head import fit_svm_head


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    bad = random.random(count) < 0.25
    rows = random.normal(size=(count, 40)) * np.linspace(0.1, 5, 40) + bad[:, None] * 0.8
    rows[:, 7] = 3.0  # a feature that never varies must not divide by zero
    return rows.astype(np.float32), bad


def test_raw_scores_equal_scikit_learns():
    rows, bad = blobs(300, 0)
    fresh, _ = blobs(50, 1)
    weight = np.where(np.arange(300) % 7 == 0, 0.3, 1.0).astype(np.float32)
    fit = fit_svm_head(rows, bad, weight, np.arange(300) % 4, seed=0)
    scaler = StandardScaler().fit(rows)
    balanced = weight * 300 / (2 * np.where(bad, bad.sum(), (~bad).sum()))
    oracle = SVC(C=fit.cost, gamma=fit.width / 40).fit(scaler.transform(rows), bad, sample_weight=balanced)
    ours = fit.head(torch.from_numpy(fresh)).numpy()
    assert np.allclose(ours, oracle.decision_function(scaler.transform(fresh)), atol=2e-3)


def test_out_of_fold_raw_scores_come_from_machines_that_had_not_seen_the_row():
    """Labels are noise: a machine that had seen a row would know it, one that had not cannot."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 10)).astype(np.float32)
    bad = random.random(200) < 0.5
    fit = fit_svm_head(rows, bad, np.ones(200, np.float32), np.arange(200) % 4, seed=0)
    seen = fit.head(torch.from_numpy(rows)).numpy()
    assert ((seen > 0) == bad).mean() > 0.8
    assert 0.3 < ((fit.out_of_fold > 0) == bad).mean() < 0.7


def test_rows_of_no_fold_teach_and_are_not_judged():
    rows, bad = blobs(120, 3)
    folds = np.arange(120) % 4
    folds[:10] = -1
    fit = fit_svm_head(rows, bad, np.ones(120, np.float32), folds, seed=0)
    assert np.isnan(fit.out_of_fold[:10]).all()
    assert np.isfinite(fit.out_of_fold[10:]).all()


def test_too_many_rows_keep_the_bad_ones(monkeypatch):
    monkeypatch.setattr("knowngood.training.svm_head.MOST_ROWS", 100)
    rows, bad = blobs(400, 2)
    bad[:] = False
    bad[:30] = True
    fit = fit_svm_head(rows, bad, np.ones(400, np.float32), np.arange(400) % 4, seed=0)
    assert len(fit.rows) == 100
    assert set(range(30)) <= set(fit.rows.tolist())


def test_a_copy_never_teaches_against_its_own_source():
    """Labels are noise: out of sample nobody does better than chance, unless copies of held-out rows teach."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 20)).astype(np.float32)
    bad, folds = rng.random(120) < 0.5, np.arange(120) % 4
    both, labels = np.concatenate([rows, rows + 0.01]).astype(np.float32), np.concatenate([bad, bad])
    weight = np.ones(240, np.float32)
    areas = []
    for copies in (np.full(120, -1), -2 - folds):
        fit = fit_svm_head(both, labels, weight, np.concatenate([folds, copies]).astype(np.int64), 0)
        assert np.isnan(fit.out_of_fold[120:]).all()
        areas.append(max(row["auroc"] for row in fit.table))
    assert areas[0] > 0.9
    assert areas[1] < 0.68

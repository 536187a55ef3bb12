"""Which rows teach when there are too many, and what generated copies may do."""

import numpy as np

from knowngood.models.classical import at_most, fit_classifier, fit_components, separating_line
from knowngood.training.config import CLASSIFIERS


def test_too_many_rows_are_drawn_from_and_bads_come_first():
    bad = np.arange(1000) < 100
    chosen = at_most(300, bad, np.random.default_rng(0))
    assert len(chosen) == len(set(chosen.tolist())) == 300
    assert bad[chosen].sum() == 100
    assert at_most(150, bad, np.random.default_rng(0)).size == 150
    assert bad[at_most(150, bad, np.random.default_rng(0))].sum() == 75
    assert bad[at_most(950, ~bad, np.random.default_rng(0))].sum() == 100  # few goods: all of them
    np.testing.assert_array_equal(at_most(None, bad, np.random.default_rng(0)), np.arange(1000))


def test_a_copy_never_teaches_against_its_own_source():
    """Labels are noise, so out of sample nobody can do better than chance unless copies leak."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(160, 30)).astype(np.float32)
    bad = rng.random(160) < 0.5
    folds = np.arange(160) % 4
    both, labels = np.concatenate([rows, rows + 0.01]).astype(np.float32), np.concatenate([bad, bad])
    honest, leaking = np.concatenate([folds, -2 - folds]), np.concatenate([folds, np.full(160, -1)])
    kind = CLASSIFIERS.get("knn")()
    assert fit_classifier(kind, both, labels, leaking).auroc > 0.95
    assert fit_classifier(kind, both, labels, honest).auroc < 0.65
    assert separating_line(both, labels, honest, components=2).auroc < 0.65


def test_components_of_few_images():
    rows = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    found = fit_components(rows)
    assert found.explained.shape == (5,)
    assert found.project(rows).shape == (5, 2)
    assert found.explained.sum() <= 1 + 1e-6

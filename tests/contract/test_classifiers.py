"""Every conventional classifier: finds what is easy, repeats itself, scores rows one by one, refuses nonsense."""

import json

import numpy as np
import pytest

from knowngood.errors import DataError, UnknownNameError
from knowngood.models.classical import fit_classifier
from knowngood.training.config import CLASSIFIERS


def blobs(count: int = 90, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, bad, folds: a third is bad and lies apart in two of the directions."""
    rng = np.random.default_rng(seed)
    bad = np.arange(count) % 3 == 0
    rows = np.abs(rng.normal(1, 0.4, (count, width)) + bad[:, None] * np.r_[1.5, 1.5, np.zeros(width - 2)])
    return rows.astype(np.float32), bad, np.arange(count) // 3 % 3


@pytest.fixture(params=CLASSIFIERS.names())
def kind(request):
    return CLASSIFIERS.get(request.param)()


def test_it_finds_what_is_easy(kind):
    rows, bad, folds = blobs()
    fitted = fit_classifier(kind, rows, bad, folds)
    new, truth, _ = blobs(seed=1)
    raw_scores = fitted.raw_scores(new)
    assert raw_scores.dtype == np.float64
    assert raw_scores.shape == (90,)
    assert np.isfinite(raw_scores).all()
    assert np.median(raw_scores[truth]) > np.median(raw_scores[~truth])  # higher = more likely bad
    assert fitted.auroc > 0.9
    assert fitted.auroc == max(row["auroc"] for row in fitted.table)
    assert fitted.setting in kind.settings(60)
    json.dumps(fitted.table)
    assert kind.summary


def test_the_same_seed_gives_the_same_raw_scores(kind):
    rows, bad, folds = blobs()
    first, second = (fit_classifier(kind, rows, bad, folds, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.raw_scores(rows), second.raw_scores(rows))
    assert first.table == second.table


def test_a_row_scores_the_same_alone(kind):
    rows, bad, folds = blobs()
    fitted = fit_classifier(kind, rows, bad, folds)
    alone = np.concatenate([fitted.raw_scores(row[None]) for row in rows[:7]])
    np.testing.assert_allclose(alone, fitted.raw_scores(rows)[:7], atol=1e-9)


def test_features_are_left_as_they_are(kind):
    rows, bad, folds = blobs()
    before = rows.copy()
    fit_classifier(kind, rows, bad, folds).raw_scores(rows)
    np.testing.assert_array_equal(rows, before)


def test_nonsense_is_refused(kind):
    rows, bad, folds = blobs()
    fitted = fit_classifier(kind, rows, bad, folds)
    with pytest.raises(DataError, match="fitted on length 12"):
        fitted.raw_scores(rows[:, :7])  # of another backbone
    spoilt = rows.copy()
    spoilt[3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit_classifier(kind, spoilt, bad, folds)
    with pytest.raises(DataError, match="are good"):
        fit_classifier(kind, rows, np.zeros(90, bool), folds)


def test_few_rows_still_leave_a_setting(kind):
    rows, bad, _ = blobs(9)
    assert kind.settings(4)
    fitted = fit_classifier(kind, rows, bad, np.arange(9) // 3 % 2)
    assert np.isfinite(fitted.raw_scores(rows)).all()


def test_an_unknown_classifier_suggests_near_names():
    with pytest.raises(UnknownNameError, match="did you mean svm"):
        CLASSIFIERS.get("smv")

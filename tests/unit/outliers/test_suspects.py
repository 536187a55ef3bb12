"""Suspects: planted noise is found, sides are told apart, nothing unlabelled is judged."""

import numpy as np
import pytest

from knowngood.errors import DataError
from knowngood.outliers.label_issues import find_suspects, out_of_fold_scores


def planted(count: int = 600, hidden: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels with bad hidden in good, and which rows those are."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) < count // 5
    features = random.normal(size=(count, 16)) + truth[:, None] * 1.5
    labels = truth.astype(np.uint8)
    wrong = np.zeros(count, bool)
    wrong[:hidden] = True
    labels[wrong] = 0
    return features.astype(np.float32), labels, wrong


def test_bad_hidden_in_good_is_found_from_features():
    features, labels, wrong = planted()
    scores = out_of_fold_scores(features, labels, np.arange(len(labels)) % 4).scores
    found = find_suspects(scores, labels)
    assert wrong[found.ranked()[:12]].mean() >= 0.8
    assert found.suspect[wrong].mean() >= 0.6
    most_doubtful = np.argsort(-np.where(labels == 0, found.score, 0))[:12]
    assert wrong[most_doubtful].mean() >= 0.8
    assert find_suspects(scores, labels, rule="likelier").suspect[wrong].mean() >= 0.8
    assert (found.suggested_label[wrong & found.suspect] == 1).all()
    assert found.noise[0] == pytest.approx(12 / 492, abs=0.015)


def test_scores_out_of_sample_cannot_be_learned_from_noise():
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.5).astype(np.uint8)
    scores = out_of_fold_scores(random.normal(size=(200, 8)).astype(np.float32), labels, np.arange(200) % 4).scores
    assert 0.3 < ((scores > 0.5) == labels).mean() < 0.7


def test_rows_beyond_what_the_machine_takes_are_scored_too(monkeypatch):
    features, labels, wrong = planted(500)
    monkeypatch.setattr("knowngood.training.svm_head.MOST_ROWS", 250)
    folds = np.arange(500) % 4
    folds[490:] = -1
    found = out_of_fold_scores(features, labels, folds)
    assert np.isnan(found.scores[490:]).all()
    assert np.isfinite(found.scores[:490]).all()
    assert find_suspects(found.scores, labels, rule="likelier").suspect[wrong].mean() > 0.7
    assert np.nanmean((found.scores > 0.5) == labels) > 0.9


def test_left_out_rows_are_scored_by_machines_that_never_saw_their_fold(monkeypatch):
    """Copies of one row with random labels lie in one fold: whoever had seen a copy would know its label."""
    random = np.random.default_rng(1)
    lots = np.repeat(np.arange(120), 4)
    labels = (random.random(120) < 0.5).astype(np.uint8)[lots]
    features = random.normal(size=(120, 8)).astype(np.float32)[lots]
    monkeypatch.setattr("knowngood.training.svm_head.MOST_ROWS", 240)
    scores = out_of_fold_scores(features, labels, lots % 4).scores
    assert ((scores > 0.5) == labels).mean() < 0.65


def test_one_side_is_put_apart_not_dropped():
    scores = np.array([0.02, 0.03, 0.02, 0.97, 0.98, 0.96, 0.97, 0.01])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    both, one = find_suspects(scores, labels), find_suspects(scores, labels, one_sided=True)
    assert np.flatnonzero(both.suspect).tolist() == [3, 7]
    assert not both.other_side.any()
    assert np.flatnonzero(one.suspect).tolist() == [3]
    assert np.flatnonzero(one.other_side).tolist() == [7]
    assert one.suggested_label.tolist() == both.suggested_label.tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert np.array_equal(one.noise, [0.25, 0.25])


def test_unlabelled_and_unscored_rows_are_left_out():
    scores = np.array([0.1, 0.9, np.nan, 0.9, 0.2, 0.8])
    labels = np.array([0, 1, 0, 255, 0, 1])
    found = find_suspects(scores, labels)
    assert np.isnan(found.score[[2, 3]]).all()
    assert not found.suspect[[2, 3]].any()
    assert np.array_equal(found.thresholds, find_suspects(scores[[0, 1, 4, 5]], labels[[0, 1, 4, 5]]).thresholds)


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([0.1, 3.0], [0, 1], "no probability"),
        ([0.1, 0.2], [0, 0], "both labels"),
        ([0.1, 0.2], [0, 1, 1], "do not pair"),
    ],
)
def test_wrong_input_is_explained(scores, labels, said):
    with pytest.raises(DataError, match=said):
        find_suspects(scores, labels)


@pytest.mark.parametrize(
    ("labels", "folds", "said"),
    [
        ([0, 1] * 10, [0] * 20, "two folds"),
        ([0] * 20, [0, 1] * 10, "labelled good"),
        ([0, 1] * 9, [0, 1] * 10, "shape"),
        ([0, 7] * 10, [0, 1] * 10, "neither 0"),
    ],
)
def test_wrong_folds_and_labels_are_explained(labels, folds, said):
    with pytest.raises(DataError, match=said):
        out_of_fold_scores(np.ones((20, 3), np.float32), np.array(labels), np.array(folds))

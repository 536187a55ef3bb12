"""Confident learning against cleanlab, its authors' software."""

import numpy as np
import pytest

from knowngood.outliers.label_issues import find_suspects

cleanlab_filter = pytest.importorskip("cleanlab.filter")
cleanlab_count = pytest.importorskip("cleanlab.count")
cleanlab_rank = pytest.importorskip("cleanlab.rank")


def noisy(seed: int, count: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a fair classifier, labels with noise on both sides; shares and overlap differ by seed."""
    random = np.random.default_rng(seed)
    truth = random.random(count) < random.uniform(0.05, 0.5)
    scores = 1 / (1 + np.exp(-(random.normal(size=count) * random.uniform(0.5, 3) + np.where(truth, 2, -2))))
    flipped = random.random(count) < random.uniform(0, 0.1)
    return scores, (truth ^ flipped).astype(np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_suspects_thresholds_joint_and_order_are_cleanlabs(seed):
    scores, labels = noisy(seed)
    both = np.stack([1 - scores, scores], axis=1)
    found = find_suspects(scores, labels)
    issues = cleanlab_filter.find_label_issues(labels, both, filter_by="confident_learning", n_jobs=1)
    assert np.array_equal(found.suspect, issues)
    unlike = cleanlab_filter.find_label_issues(labels, both, filter_by="predicted_neq_given", n_jobs=1)
    assert np.array_equal(find_suspects(scores, labels, rule="likelier").suspect, unlike)
    assert np.allclose(found.thresholds, cleanlab_count.get_confident_thresholds(labels, both))
    assert np.array_equal(found.joint, cleanlab_count.compute_confident_joint(labels, both, calibrate=False))
    for method in ("self_confidence", "normalized_margin"):
        quality = cleanlab_rank.get_label_quality_scores(labels, both, method=method)
        assert np.allclose(found.score, 1 - quality)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1]),  # ties: nothing is likelier
        ([0.0, 1.0, 0.0, 1.0], [0, 1, 1, 0]),
        ([0.9, 0.9, 0.1, 0.1], [0, 0, 1, 1]),  # upside down
        ([0.2, 0.3, 0.35, 0.4], [0, 0, 1, 1]),
    ],
)
def test_edges_are_cleanlabs(scores, labels):
    both = np.stack([1 - np.array(scores), scores], axis=1)
    issues = cleanlab_filter.find_label_issues(np.array(labels), both, filter_by="confident_learning", n_jobs=1)
    assert np.array_equal(find_suspects(scores, labels).suspect, issues)

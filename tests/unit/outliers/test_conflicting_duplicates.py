"""Near-duplicates with conflicting labels."""

import numpy as np
import pytest

from knowngood.errors import DataError
from knowngood.outliers.neighbours import find_copies

CLUSTERS = np.array([4, 0, 4, 1, 0, 4, 2, 2, 3])
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 255, 1])


def test_only_clusters_with_both_labels_oppose():
    found = find_copies(CLUSTERS, LABELS)
    assert found.first.tolist() == [-1, -1, 0, -1, 1, 0, -1, 6, -1]
    assert found.partner.tolist() == [2, -1, 0, -1, -1, 2, -1, -1, -1]
    assert found.pairs.tolist() == [[0, 2], [5, 2]]


def test_the_nearest_copy_is_the_partner():
    labels = np.array([0, 0, 1])
    features = np.array([[5.0], [1.0], [1.5]])
    assert find_copies(np.zeros(3, int), labels).partner.tolist() == [2, 2, 0]
    assert find_copies(np.zeros(3, int), labels, features).partner.tolist() == [2, 2, 1]


def test_nothing_opposed_gives_no_pairs():
    found = find_copies(np.arange(5), np.array([0, 1, 0, 1, 0]))
    assert found.pairs.shape == (0, 2)
    assert (found.first == -1).all()


def test_a_huge_cluster_gives_a_pair_an_image_at_most():
    found = find_copies(np.zeros(2000, int), np.arange(2000) % 2)
    assert len(found.pairs) <= 2000
    assert set(np.unique(found.pairs)) == set(range(2000))


def test_lengths_must_pair():
    with pytest.raises(DataError, match="do not pair"):
        find_copies(np.zeros(3, int), np.zeros(4))

"""Features are made once for a photograph and a way of making them, and survive damage."""

import hashlib

import numpy as np
import pytest

from knowngood.models.features import FeatureCache

DIGESTS = [hashlib.sha256(bytes([i])).hexdigest() for i in range(6)]
ROWS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.fixture
def filled(tmp_path):
    cache = FeatureCache(["resnet50", 224], tmp_path)
    cache.add(DIGESTS[:4], ROWS[:4])
    cache.add(DIGESTS[4:5], ROWS[4:5])
    return tmp_path


def test_what_was_added_is_found_again(filled):
    cache = FeatureCache(["resnet50", 224], filled)
    assert cache.missing(DIGESTS).tolist() == [5]
    found = cache.take([DIGESTS[4], None, DIGESTS[1], DIGESTS[5]])
    assert sorted(found) == [0, 2]
    assert np.array_equal(found[0], ROWS[4])
    assert np.array_equal(found[2], ROWS[1])


def test_another_way_of_making_them_shares_nothing(filled):
    assert len(FeatureCache(["resnet50", 256], filled).missing(DIGESTS)) == 6


def test_photographs_without_a_hash_are_never_kept(tmp_path):
    cache = FeatureCache("x", tmp_path)
    cache.add([None, DIGESTS[0]], ROWS[:2])
    assert cache.missing([None, DIGESTS[0]]).tolist() == [0]
    assert np.array_equal(cache.take([DIGESTS[0]])[0], ROWS[1])


def test_a_damaged_shard_is_computed_again(filled):
    cache = FeatureCache(["resnet50", 224], filled)
    largest = max(cache.folder.iterdir(), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:40])
    assert cache.missing(DIGESTS).tolist() == [0, 1, 2, 3, 5]


def test_two_writers_fill_one_cache(filled):
    one, other = (FeatureCache(["resnet50", 224], filled) for _ in range(2))
    one.missing(DIGESTS)
    other.add(DIGESTS[5:], ROWS[5:])
    assert len(one.missing(DIGESTS)) == 0

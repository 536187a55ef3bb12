"""Rare defects and wrong labels, planted, land on different lists."""

import numpy as np
import pytest

from knowngood.errors import DataError
from knowngood.outliers.neighbours import find_rare


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, slice]]:
    """400 good; 60 bad of a common kind; 3 bad of a kind of their own; 6 good ones called bad; 6 bad called good."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(475, 10))
    rows[400:460] += 3.0
    rows[460:463, 0] -= 14.0
    rows[469:] += 3.0
    labels = np.zeros(475, np.uint8)
    labels[400:469] = 1
    parts = {"rare": slice(460, 463), "wrong bad": slice(463, 469), "hidden": slice(469, 475)}
    return rows.astype(np.float32), labels, parts


def doubts(parts: dict[str, slice]) -> np.ndarray:
    doubted = np.zeros(475, bool)
    for part in parts.values():
        doubted[part] = True
    return doubted


def test_a_rare_defect_is_no_wrong_label():
    rows, labels, parts = planted()
    found = find_rare(rows, labels, doubts(parts))
    assert found.rare[parts["rare"]].all()
    assert not found.rare[parts["wrong bad"]].any()  # they lie among good: their label is what is wrong
    assert not found.rare[parts["hidden"]].any()  # labelled good: a person has to look
    assert found.rare[400:460].mean() < 0.05
    assert found.far_from_good[parts["hidden"]].all()


def test_a_rare_defect_that_nobody_doubts_is_listed_when_it_is_alone():
    rows, labels, parts = planted()
    found = find_rare(rows, labels, np.zeros(475, bool))
    assert found.rare[parts["rare"]].all()
    assert not found.rare[parts["wrong bad"]].any()


def test_hidden_bad_images_do_not_widen_what_counts_as_good():
    rows, labels, parts = planted()
    with_doubt = find_rare(rows, labels, doubts(parts)).radius
    clean = find_rare(rows[:463], labels[:463], np.zeros(463, bool)).radius
    assert with_doubt == pytest.approx(clean, rel=0.02)


def test_too_few_of_a_class_say_nothing():
    rows, labels, _ = planted()
    found = find_rare(rows[:403], labels[:403], np.zeros(403, bool))
    assert np.isnan(found.bad_distance).all()
    assert not found.rare.any()
    lonely = np.zeros(403, bool)
    lonely[402] = True
    assert find_rare(rows[:403], labels[:403], lonely).rare.tolist() == lonely.tolist()


def test_lengths_must_pair():
    with pytest.raises(DataError, match="do not pair"):
        find_rare(np.ones((5, 2)), np.zeros(4), np.zeros(5, bool))

"""The gate: what is compared, what is refused, thresholds certified by the recipe's own budget."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood import Recipe
from knowngood.metrics.thresholds import choose_threshold
from knowngood.recipe.options import Tolerance
from knowngood.recipe.parity import certified, compared, complaints, likeness

LABELS = np.r_[np.zeros(400, np.uint8), np.ones(100, np.uint8)]


@pytest.fixture(scope="module")
def manifest(trained_run):
    return Recipe.load(trained_run).manifest


def scores(seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(np.where(LABELS == 1, 0.8, 0.2) + rng.normal(0, 0.1, 500), 0, 1)


def judged(manifest, before, after):
    threshold = certified(manifest, LABELS, after)
    was = manifest.threshold | certified(manifest, LABELS, before).to_dict()
    report = compared(manifest.model_copy(update={"threshold": was}), threshold, LABELS, before, after)
    return report, complaints(report, Tolerance())


def test_the_threshold_is_that_of_the_recipes_budget(manifest):
    want = choose_threshold(LABELS, scores(), escape_budget=0.01, confidence=0.95)
    assert certified(manifest, LABELS, scores()) == want


def test_equal_scores_pass_and_shifted_ones_are_certified_anew(manifest):
    report, found = judged(manifest, scores(), scores())
    assert not found
    assert report["score_difference"] == {"mean": 0, "max": 0}
    assert report["changed_decisions"] == 0
    assert (report["goods"], report["bads"]) == (400, 100)
    before = scores()
    report, found = judged(manifest, before, before * 0.95)  # one order, another scale: the new threshold mends it
    assert not found
    assert report["changed_decisions"] == 0
    at_old, at_new = report["graph_at_the_recipes_threshold"], report["graph_at_its_own_threshold"]
    assert at_old["escapes"] >= at_new["escapes"]


def test_noise_is_refused_in_words(manifest):
    rng = np.random.default_rng(1)
    noisy = np.clip(scores() + rng.normal(0, 0.3, 500), 0, 1)
    report, found = judged(manifest, scores(), noisy)
    assert report["auc"]["after"] < report["auc"]["before"]
    assert [word for word in ("scores differ", "AUC falls", "overkill rises") if any(word in f for f in found)] == [
        "scores differ",
        "AUC falls",
        "overkill rises",
    ]


def test_noise_in_raw_scores_is_refused_though_the_auc_rises_by_chance(manifest):
    rng = np.random.default_rng(0)
    raw_scores = np.where(LABELS == 1, 1.0, -1.0) + rng.normal(0, 0.8, 500)
    seen = set()
    for seed in range(20):
        noisy = raw_scores + np.random.default_rng(seed).normal(0, 0.2, 500)
        before, after = (1 / (1 + np.exp(-each)) for each in (raw_scores, noisy))
        report, _ = judged(manifest, before, after)
        report["raw_score_correlation"] = likeness(raw_scores[None], noisy[None])
        assert any("raw scores correlate" in each for each in complaints(report, Tolerance()))
        seen.add(report["auc"]["after"] > report["auc"]["before"])
    assert seen == {True, False}  # the AUC alone does not tell
    assert not any(
        "raw scores correlate" in each for each in complaints(report | {"auc": None}, Tolerance())
    )  # goods only


def test_one_class_recipes_have_a_budget_of_overkill(manifest):
    budget = {"basis": "overkill", "overkill_budget": 0.05, "confidence": 0.95}
    one_class = manifest.model_copy(update={"threshold": budget, "config": {"review_overkill": 0.02}})
    made = certified(one_class, LABELS, scores())
    good = scores()[LABELS == 0]
    assert 0 < (good >= made.threshold).mean() <= 0.05
    assert made.reject_from > made.threshold


def test_maps_are_alike_up_to_scale():
    maps = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    assert likeness(maps, 3 * maps + 2) == pytest.approx(1, abs=1e-5)
    assert likeness(maps, -maps) == pytest.approx(-1, abs=1e-5)
    assert likeness(maps, np.zeros_like(maps)) is None

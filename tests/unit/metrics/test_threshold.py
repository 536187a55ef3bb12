"""The escape budget: the exact bound, the choice of threshold, and a simulation of its guarantee."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.errors import CalibrationError, ConfigError
from knowngood.metrics.thresholds import (
    Thresholds,
    bads_needed,
    choose_threshold,
    decide,
    escape_upper_bound,
    proportion_interval,
    safe_rank,
    smallest_certifiable,
    threshold_at_overkill,
)


def test_known_bounds() -> None:
    assert smallest_certifiable(300) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert bads_needed(0.01) == 299
    assert smallest_certifiable(299) <= 0.01 < smallest_certifiable(298)
    assert escape_upper_bound(0, 0) == escape_upper_bound(5, 5) == 1.0
    assert proportion_interval(0, 10)[0] == 0.0
    assert proportion_interval(10, 10)[1] == 1.0


@given(st.integers(1, 2000), st.floats(0.001, 0.5), st.floats(0.5, 0.999))
@settings(max_examples=100, deadline=None)
def test_rank_is_the_last_one_whose_bound_keeps_the_budget(n: int, budget: float, confidence: float) -> None:
    rank = safe_rank(n, budget, confidence)
    if rank:
        assert escape_upper_bound(rank - 1, n, confidence) <= budget * (1 + 1e-9)
    if rank < n:
        assert escape_upper_bound(rank, n, confidence) > budget * (1 - 1e-9)
    assert (rank >= 1) == (n >= bads_needed(budget, confidence))


@pytest.mark.parametrize("levels", [None, 7, 60], ids=["continuous", "7 levels", "60 levels"])
@pytest.mark.parametrize(("bads", "budget"), [(300, 0.01), (700, 0.02), (50, 0.2)])
def test_the_guarantee_holds_in_simulation(bads: int, budget: float, levels: int | None) -> None:
    """P(true escape rate > budget) <= 5 %: scores of bads are uniform, so the truth is known."""
    rng = np.random.default_rng(bads)
    runs, broken = 3000, 0
    rank = safe_rank(bads, budget, 0.95)
    for run in range(runs):
        scores = rng.random(bads)
        if levels:
            scores = np.floor(scores * levels) / levels
        if run == 0:
            assert choose_threshold(np.ones(bads), scores, escape_budget=budget).threshold == np.sort(scores)[rank - 1]
        # P(score < t) is t itself, also on the grid: the levels are j / levels, each as likely
        broken += bool(np.partition(scores, rank - 1)[rank - 1] > budget)
    allowed = 0.05 * runs + 3 * np.sqrt(runs * 0.05 * 0.95)
    assert broken <= allowed
    if levels is None:
        assert broken >= 0.2 * 0.05 * runs  # and it is not idle: the bound is nearly used up


def test_largest_threshold_that_is_certified() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [500, 1000])
    scores = np.concatenate([rng.random(500) * 0.3, rng.random(1000)])
    found = choose_threshold(labels, scores, escape_budget=0.01)
    bad = np.sort(scores[labels == 1])
    assert found.certified
    assert found.escapes == safe_rank(1000, 0.01, 0.95) - 1 > 0
    assert found.certified_escape_rate == pytest.approx(escape_upper_bound(found.escapes, 1000))
    assert found.certified_escape_rate <= 0.01
    following = bad[bad > found.threshold][0]
    assert escape_upper_bound(int((bad < following).sum()), 1000) > 0.01
    assert found.overkill == (scores[labels == 0] >= found.threshold).mean()
    assert found.reject_from == found.threshold


def test_too_few_bads_say_what_they_can_certify_and_the_advice_works() -> None:
    labels = np.repeat([0, 1], [10, 123])
    scores = np.concatenate([np.linspace(0, 0.4, 10), np.linspace(0.6, 1, 123)])
    found = choose_threshold(labels, scores, escape_budget=0.01)
    assert not found.certified
    assert found.escapes == 0
    assert found.threshold == pytest.approx(0.5)  # half way between the highest good and the lowest bad
    assert found.overkill == 0
    assert "0 escapes in 123 bad" in found.sentence
    assert "at most 2.41 %" in found.sentence
    assert "299" in found.sentence
    assert "176 more bad images" in found.sentence
    advice = float(re.search(r"--escape-budget (\S+)", found.sentence)[1])
    assert choose_threshold(labels, scores, escape_budget=advice).certified


@pytest.mark.parametrize("bads", [1, 2, 20])
def test_a_certificate_of_nearly_nothing_is_not_offered(bads: int) -> None:
    labels = np.repeat([0, 1], [10, bads])
    found = choose_threshold(labels, np.linspace(0, 1, 10 + bads), escape_budget=0.01)
    assert "--escape-budget" not in found.sentence  # 0.95, 0.78 or 0.14: nobody should ask for that
    assert f"{299 - bads} more bad images" in found.sentence
    assert ("1 bad calibration image " in found.sentence) == (bads == 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.lists(st.floats(0, 1), max_size=40))
@settings(max_examples=80, deadline=None)
def test_the_fallback_lets_nothing_escape_and_costs_nothing(bad: list[float], good: list[float]) -> None:
    labels = np.repeat([0, 1], [len(good), len(bad)])
    found = choose_threshold(labels, np.array(good + bad))
    assert not found.certified
    assert found.escapes == 0
    assert found.overkill == (np.mean(np.array(good) >= min(bad)) if good else None)


def test_no_bads_cannot_be_calibrated() -> None:
    with pytest.raises(CalibrationError, match="--one-class"):
        choose_threshold([0, 0], [0.1, 0.2])


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1])
def test_budget_must_be_a_share(budget: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        choose_threshold([1, 0], [0.1, 0.2], escape_budget=budget)


def test_overkill_budget_from_goods_alone() -> None:
    good = np.linspace(0, 1, 1000)
    found = threshold_at_overkill(good, overkill=0.05)
    assert found.certified
    rejected = int((good >= found.threshold).sum())
    assert rejected == safe_rank(1000, 0.05, 0.95) - 1
    assert found.overkill == rejected / 1000 < 0.05
    few = threshold_at_overkill(good[:20], overkill=0.05)
    assert not few.certified
    assert few.overkill == 0
    assert "59 good images" in few.sentence
    with pytest.raises(CalibrationError):
        threshold_at_overkill([])


def test_review_band_lies_between_the_two_budgets() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [2000, 600])
    scores = np.concatenate([rng.beta(1, 6, 2000), rng.beta(4, 2, 600)])
    found = choose_threshold(labels, scores, overkill_budget=0.02)
    assert found.threshold < found.reject_from
    assert found.certified_overkill_rate <= 0.02
    made = decide(scores, found.pair)
    assert set(made) == {"accept", "review", "reject"}
    assert (made[labels == 0] == "reject").mean() <= 0.02


def test_decide_at_the_edges() -> None:
    made = decide(np.array([0.1, 0.3, 0.5, 0.7, 0.9]), Thresholds(0.3, 0.7))
    assert made.tolist() == ["accept", "review", "review", "reject", "reject"]
    # a float32 score just below a float64 threshold stays below it
    score = np.array([0.1], dtype=np.float32)
    assert decide(score, Thresholds(np.nextafter(float(score[0]), 1), 0.5)).tolist() == ["accept"]
    with pytest.raises(ConfigError, match="accept_below <= reject_from"):
        Thresholds(0.6, 0.5)

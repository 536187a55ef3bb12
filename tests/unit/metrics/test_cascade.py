"""Thresholds of a cascade: who decides what, the certificate of the whole, what it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.errors import CalibrationError, ConfigError
from knowngood.metrics.cascade import FEWEST, NEVER, cascade_cuts, choose_certainty, try_certainties
from knowngood.metrics.thresholds import choose_threshold, decide


def units(count, seed=0, bad_rate=0.3, student_noise=1.5, large_noise=1.0):
    """Two calibrated scorers that make partly the same mistakes."""
    rng = np.random.default_rng(seed)
    label = (rng.random(count) < bad_rate).astype(np.uint8)
    shared = rng.normal(0, 0.7, count)

    def scores(noise):
        return 1 / (1 + np.exp(-(np.where(label, 2.0, -2.0) + shared + rng.normal(0, noise, count))))

    return label, scores(student_noise), scores(large_noise)


def told_one_by_one(cuts, student, large):
    """The rule as a person would write it down."""
    said = []
    for s, t in zip(student, large, strict=True):
        if s < cuts.low:
            said.append("accept")
        elif s >= cuts.high:
            said.append("reject")
        else:
            said.append("accept" if t < cuts.threshold.threshold else "reject")
    return said


@pytest.mark.parametrize("certainty", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("budget", [0.02, 0.1])
def test_one_score_says_what_the_rule_says(certainty, budget):
    label, student, large = units(2000)
    cuts = cascade_cuts(label, student, large, certainty=certainty, escape_budget=budget)
    _other, student, large = units(3000, seed=1)
    whole = cuts.whole(student, large)
    assert decide(whole, cuts.threshold.pair).tolist() == told_one_by_one(cuts, student, large)
    assert cuts.low <= cuts.threshold.threshold


def test_the_budget_is_kept_as_often_as_the_certificate_says():
    budget, confidence, broken = 0.05, 0.9, 0
    label, student, large = units(200_000, seed=9)
    trials = 300
    for seed in range(trials):
        given = units(700, seed=100 + seed)
        cuts = cascade_cuts(*given, certainty=0.5, escape_budget=budget, confidence=confidence)
        assert cuts.threshold.certified
        escapes = (cuts.whole(student, large) < cuts.threshold.threshold)[label == 1].mean()
        broken += escapes > budget
    assert broken / trials <= (1 - confidence) + 2 * np.sqrt(0.09 / trials)
    assert broken > 0  # the threshold is the largest that the proof allows, not a timid one


def test_what_the_student_rejects_itself_costs_what_is_allowed():
    label, student, large = units(4000)
    given = {"certainty": 0.5, "escape_budget": 0.05}
    for loss in (0.0, 0.01, 0.05):
        cuts = cascade_cuts(label, student, large, overkill_loss=loss, **given)
        good = label == 0
        newly = (student >= cuts.high) & (student >= cuts.low) & (large < cuts.threshold.threshold)
        assert newly[good].mean() <= loss
    least = cascade_cuts(label, student, large, overkill_loss=0.0, **given)
    assert cuts.passed(student).mean() < least.passed(student).mean()
    assert cuts.threshold.certified_escape_rate == least.threshold.certified_escape_rate


def test_a_student_that_knows_nothing_passes_nearly_everything_on():
    label, _, large = units(3000)
    nothing = np.full(len(label), label.mean())
    cuts = cascade_cuts(label, nothing, large, certainty=0.1, escape_budget=0.02)
    assert cuts.passed(nothing).all()
    alone = choose_threshold(label, large, escape_budget=0.02)
    assert cuts.threshold.threshold == alone.threshold
    assert cuts.threshold.overkill == alone.overkill


def test_a_review_band_is_certified_on_the_whole_and_the_student_then_rejects_nothing():
    label, student, large = units(3000)
    cuts = cascade_cuts(label, student, large, certainty=0.5, escape_budget=0.02, overkill_budget=0.03)
    assert cuts.high == NEVER
    good = cuts.whole(student, large)[label == 0]
    assert (good >= cuts.threshold.reject_from).mean() <= 0.03
    assert cuts.threshold.certified_overkill_rate <= 0.03
    assert cuts.threshold.overkill_budget == 0.03


def test_too_few_bads_certify_less_and_accept_none_of_them():
    label, student, large = units(60)
    cuts = cascade_cuts(label, student, large, certainty=1.0, escape_budget=0.01)
    assert not cuts.threshold.certified
    assert (cuts.whole(student, large)[label == 1] >= cuts.threshold.threshold).all()


def test_certainty_is_the_cheapest_that_costs_no_overkill():
    label, student, large = units(4000)
    tried = try_certainties(label, student, large, escape_budget=0.03)
    chosen = choose_certainty(tried, 100)
    fair = [one for one in tried if one.overkill <= one.overkill_alone + 0.005]
    assert fair
    assert min(fair, key=lambda one: one.passed).certainty == chosen
    assert choose_certainty(tried, FEWEST - 1) == 0.5
    assert choose_certainty([], 0) == 0.5


def test_what_cannot_work_is_said():
    label, student, large = units(50)
    with pytest.raises(ConfigError, match="certainty is 0"):
        cascade_cuts(label, student, large, certainty=0)
    with pytest.raises(CalibrationError, match="needs bad images"):
        cascade_cuts(np.zeros(50), student, large, certainty=0.5)

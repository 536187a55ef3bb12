"""Scores and threshold from good images alone, and what is said of escapes."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood import TrainConfig
from knowngood.metrics.thresholds import decide, escape_upper_bound
from knowngood.outliers.one_class import ORDINARY, calibrated, escapes


def goods(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(1, 0.2, count)


def fit(raw_scores: np.ndarray, **options: object) -> tuple:
    return calibrated(np.zeros(len(raw_scores), np.uint8), raw_scores, TrainConfig(one_class=True, **options))


def test_ordinary_units_score_low_and_the_cut_is_in_the_middle() -> None:
    raw_scores = goods(1000)
    calibration, threshold = fit(raw_scores)
    scores = calibration.apply(raw_scores)
    assert np.median(scores) == pytest.approx(ORDINARY)
    assert threshold.threshold == pytest.approx(0.5, abs=1e-6)
    order = np.argsort(raw_scores)
    assert (np.diff(scores[order]) >= 0).all()


def test_the_overkill_is_certified_by_the_exact_bound() -> None:
    raw_scores = goods(1000)
    calibration, threshold = fit(raw_scores, overkill_budget=0.02)
    rejected = int((decide(calibration.apply(raw_scores), threshold.pair) == "reject").sum())
    assert threshold.certified
    assert threshold.certified_overkill_rate == pytest.approx(escape_upper_bound(rejected, 1000))
    assert threshold.certified_overkill_rate <= 0.02 < escape_upper_bound(rejected + 1, 1000)
    assert threshold.certified_escape_rate is None


def test_the_certificate_holds_on_new_goods() -> None:
    """Of many lines, about one in twenty may exceed the budget at 95 % confidence."""
    exceeded = 0
    for seed in range(200):
        calibration, threshold = fit(goods(400, seed), overkill_budget=0.05)
        cut = (threshold.threshold, calibration)
        new = goods(20_000, 1000 + seed)
        exceeded += float((cut[1].apply(new) >= cut[0]).mean()) > 0.05
    assert exceeded <= 20


def test_few_goods_are_not_certified_and_none_of_them_is_rejected() -> None:
    raw_scores = goods(12)
    calibration, threshold = fit(raw_scores)
    assert not threshold.certified
    assert set(decide(calibration.apply(raw_scores), threshold.pair)) == {"accept"}
    assert "299 good images" in threshold.sentence
    assert "unknown - no bad images" in threshold.sentence


def test_bads_change_nothing() -> None:
    raw_scores = np.concatenate([goods(100), [50.0, 60.0]])
    labels = np.array([0] * 100 + [1] * 2, np.uint8)
    config = TrainConfig(one_class=True)
    assert calibrated(labels, raw_scores, config) == calibrated(labels[:100], raw_scores[:100], config)


@pytest.mark.parametrize("raw_scores", [np.full(10, 3.0), np.zeros(10), np.array([2.0])])
def test_goods_without_spread_still_give_scores(raw_scores: np.ndarray) -> None:
    calibration, threshold = fit(raw_scores)
    assert decide(calibration.apply(raw_scores[:1]), threshold.pair).tolist() == ["accept"]
    assert decide(calibration.apply([raw_scores[0] + 10]), threshold.pair).tolist() == ["reject"]


def test_a_review_band_lies_above_the_threshold() -> None:
    raw_scores = goods(2000)
    calibration, threshold = fit(raw_scores, overkill_budget=0.1, review_overkill=0.01)
    said = decide(calibration.apply(raw_scores), threshold.pair)
    assert (said == "reject").mean() < 0.01
    assert 0.05 < (said != "accept").mean() < 0.1
    assert "a person looks" in threshold.sentence


def test_escapes_are_measured_or_unknown_never_invented() -> None:
    assert escapes(None) == escapes({"n_bad": 0}) == "escape rate: unknown - no bad images"
    said = escapes({"n_bad": 40, "confusion": {"fn": 3}})
    assert "3 of 40" in said
    assert "7.5 %" in said
    assert "not certified" in said

"""What `compute_metrics` promises: figures, intervals, nulls, errors, and properties that hold for any scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_curve

from knowngood.errors import KnownGoodError
from knowngood.metrics.curves import reliability
from knowngood.metrics.figures import (
    TPRS,
    auroc,
    auroc_interval,
    compute_metrics,
    expected_calibration_error,
    fpr_at_tpr,
)


def some(goods: int, bads: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [goods, bads]).astype(np.uint8)
    scores = np.concatenate([rng.beta(1, 5, goods), rng.beta(5, 2, bads)])
    return labels, scores


score_lists = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.uint8, n, elements=st.integers(0, 1)),
        # few distinct values, so that ties are the rule
        hnp.arrays(np.float64, n, elements=st.integers(0, 12).map(lambda i: i / 12)),
    )
)


def test_figures_by_hand() -> None:
    labels = [0, 0, 0, 1, 1]
    scores = [0.1, 0.2, 0.8, 0.7, 0.9]
    found = compute_metrics(labels, scores, threshold=0.75, resamples=0).to_dict()
    assert found["confusion"] == {"tn": 2, "fp": 1, "fn": 1, "tp": 1}
    assert found["auroc"] == pytest.approx(5 / 6)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["precision"] == found["recall"] == found["f1"] == found["escape_rate"] == 0.5
    assert found["overkill_rate"] == pytest.approx(1 / 3)
    assert found["fpr_at_tpr"] == dict.fromkeys(["0.991", "0.993", "0.995", "0.997", "1"], 1 / 3)
    assert found["brier"] == pytest.approx(np.mean(np.square([0.1, 0.2, 0.8, 0.3, 0.1])))
    assert found["auroc_ci"] is None


def test_a_score_equal_to_the_threshold_is_rejected() -> None:
    assert compute_metrics([0, 1], [0.5, 0.5], threshold=0.5, resamples=0).confusion == {
        "tn": 0,
        "fp": 1,
        "fn": 0,
        "tp": 1,
    }


def test_fpr_rounds_the_number_of_bads_to_the_safe_side() -> None:
    bad = np.linspace(0.5, 1, 1000)
    good = np.array([0.0, bad[4] + 1e-9, bad[5] + 1e-9])
    labels, scores = np.repeat([0, 1], [3, 1000]), np.concatenate([good, bad])
    # 0.995 of 1000 bads is exactly 995: the five lowest may escape, whatever floats make of the product
    assert fpr_at_tpr(labels, scores, 0.995) == pytest.approx(1 / 3)
    assert fpr_at_tpr(labels, scores, 0.9951) == pytest.approx(2 / 3)


def test_intervals_hold_the_figure_and_cover_the_truth() -> None:
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [120, 60])
        scores = np.concatenate([rng.uniform(0, 0.6, 120), rng.uniform(0.4, 1, 60)])
        low, high = compute_metrics(labels, scores, threshold=0.5, resamples=200).intervals["escape_rate"]
        inside += low <= 1 / 6 <= high
    assert 50 <= inside <= 60  # 95 % of 60 is 57

    found = compute_metrics(*some(300, 100), threshold=0.4, resamples=300)
    for name, value in found.figures.items():
        if name != "ece":  # its interval sits high, as documented
            assert found.intervals[name][0] <= value <= found.intervals[name][1], name
    for tpr in TPRS:
        assert found.fpr_at_tpr_intervals[tpr][0] <= found.fpr_at_tpr_intervals[tpr][1]


@pytest.mark.parametrize(("goods", "bads"), [(1, 1), (15, 2), (25, 6), (400, 30)])
def test_no_interval_is_without_width_however_clear_the_scores(goods: int, bads: int) -> None:
    labels = np.repeat([0, 1], [goods, bads])
    scores = np.concatenate([np.linspace(0, 0.3, goods), np.linspace(0.7, 1, bads)])
    found = compute_metrics(labels, scores, threshold=0.5, resamples=100)
    for name, interval in {**found.intervals, **found.fpr_at_tpr_intervals}.items():
        assert interval is None or interval[0] < interval[1], name
    assert found.intervals["auroc"][1] == 1
    assert found.intervals["escape_rate"][1] == pytest.approx(1 - 0.025 ** (1 / bads))  # 0 of n, Clopper-Pearson
    assert found.intervals["accuracy"][0] == pytest.approx(0.025 ** (1 / (goods + bads)))


def test_the_interval_of_a_perfect_auc_covers_what_it_should() -> None:
    rng, covered = np.random.default_rng(0), []
    truth = 0.9
    shift = 2**0.5 * 1.2815515655446004  # AUC 0.9 of two normal distributions of unit variance
    for _ in range(400):
        bad, good = rng.normal(shift, 1, 8), rng.normal(0, 1, 20)
        area = float((bad[:, None] > good).mean())
        low, high = auroc_interval(area, 20, 8)
        assert low <= area <= high
        covered.append(low <= truth <= high)
    assert 0.92 <= np.mean(covered) <= 1


def test_bootstrap_in_pieces_is_a_plain_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = some(80, 40)
    rng = np.random.default_rng(1)
    good, bad = scores[labels == 0], scores[labels == 1]
    plain = [auroc(labels, np.concatenate([rng.choice(good, 80), rng.choice(bad, 40)])) for _ in range(1500)]
    monkeypatch.setattr("knowngood.metrics.figures._CELLS", 10_000)
    found = compute_metrics(labels, scores, threshold=0.4, resamples=1500).intervals["auroc"]
    assert found == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.006)


def test_same_seed_same_intervals() -> None:
    once, again = (compute_metrics(*some(90, 30), threshold=0.4, resamples=50, seed=7) for _ in range(2))
    assert once == again


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_nulls_not_errors(label: int) -> None:
    found = compute_metrics([label] * 4, [0.1, 0.2, 0.3, 0.9], threshold=0.5, resamples=20).to_dict()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["auroc"] is None
    assert found["auroc_ci"] is None
    assert found["fpr_at_tpr"]["1"] is None
    assert found["accuracy"] == (0.75 if label == 0 else 0.25)
    assert (found["escape_rate"] is None) == (label == 0)


def test_no_images_give_nulls() -> None:
    found = compute_metrics([], [], threshold=0.5).to_dict()
    assert found["accuracy"] is None
    assert found["ece"] is None
    assert found["n_good"] == found["n_bad"] == 0


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 1], [0.1, float("nan")], "NaN"),
        ([0, 1], [0.1, float("inf")], "NaN or infinite"),
        ([0, 2], [0.1, 0.2], "0 \\(good\\) or 1 \\(bad\\)"),
        ([0, 1, 1], [0.1, 0.2], "shape"),
        ([0, 1], [0.1, 1.2], "in \\[0, 1\\]"),
    ],
)
def test_bad_input_is_named(labels: list[int], scores: list[float], says: str) -> None:
    with pytest.raises(KnownGoodError, match=says):
        compute_metrics(labels, scores, threshold=0.5)


@given(score_lists)
@settings(max_examples=60, deadline=None)
def test_turning_scores_and_labels_round_keeps_the_auroc(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = data
    assert auroc(labels, scores) == pytest.approx(auroc(1 - labels, 1 - scores))
    assert auroc(labels, scores) == pytest.approx(auroc(labels, np.exp(3 * scores)))


@given(score_lists)
@settings(max_examples=60, deadline=None)
def test_overkill_rises_with_the_share_to_be_caught(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = data
    rates = [fpr_at_tpr(labels, scores, tpr) for tpr in (0.1, 0.5, *TPRS)]
    if None not in rates:
        assert rates == sorted(rates)
        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert rates[-1] == pytest.approx(fpr[tpr >= 1 - 1e-12].min())


@given(score_lists)
@settings(max_examples=60, deadline=None)
def test_reliability_bins_share_out_all_images(data: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = data
    found = reliability(labels, scores)
    assert found.count.sum() == labels.size
    assert (np.diff(found.score) > 0).all()
    gap = (np.abs(found.score - found.share_bad) * found.count).sum() / labels.size
    assert expected_calibration_error(labels, scores) == pytest.approx(gap)


def test_equal_mass_bins_are_even() -> None:
    found = reliability(*some(600, 300))
    assert found.count.tolist() == [60] * 15

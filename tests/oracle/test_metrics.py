"""Figures against scikit-learn, and tests against their defining sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest
from sklearn import metrics as sk

from knowngood.errors import KnownGoodError
from knowngood.metrics.comparisons import auroc_covariance, compare_accuracy, compare_auroc
from knowngood.metrics.figures import TPRS, compute_metrics
from knowngood.metrics.thresholds import proportion_interval


def draw(seed: int, rounding: int | None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(400) < 0.3).astype(np.uint8)
    scores = np.clip(rng.normal(0.35 + 0.25 * labels, 0.15), 0, 1)
    return labels, scores if rounding is None else scores.round(rounding)


@pytest.mark.parametrize("rounding", [None, 1, 2], ids=["distinct", "coarse ties", "fine ties"])
@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_scikit_learn(seed: int, rounding: int | None) -> None:
    labels, scores = draw(seed, rounding)
    found = compute_metrics(labels, scores, threshold=0.5, resamples=0)
    made = scores >= 0.5
    expected = {
        "auroc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "accuracy": sk.accuracy_score(labels, made),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, made),
        "f1": sk.f1_score(labels, made),
        "precision": sk.precision_score(labels, made),
        "recall": sk.recall_score(labels, made),
        "brier": sk.brier_score_loss(labels, scores),
    }
    for name, value in expected.items():
        assert found.figures[name] == pytest.approx(value, abs=1e-12), name
    assert [found.confusion[c] for c in ("tn", "fp", "fn", "tp")] == sk.confusion_matrix(labels, made).ravel().tolist()
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    for at in TPRS:
        assert found.fpr_at_tpr[at] == pytest.approx(fpr[tpr >= at - 1e-12].min())


@pytest.mark.parametrize("rounding", [None, 1], ids=["distinct", "ties"])
def test_delong_by_all_pairs(rounding: int | None) -> None:
    labels, first = draw(0, rounding)
    second = np.clip(0.6 * first + 0.4 * draw(5, rounding)[1], 0, 1)
    auc, covariance = auroc_covariance(labels, first, second)
    bads, goods = labels == 1, labels == 0
    psi = [(s[bads][:, None] > s[goods]) + 0.5 * (s[bads][:, None] == s[goods]) for s in (first, second)]
    by_bad, by_good = np.stack([p.mean(1) for p in psi]), np.stack([p.mean(0) for p in psi])
    np.testing.assert_allclose(auc, [p.mean() for p in psi])
    np.testing.assert_allclose(covariance, np.cov(by_bad) / bads.sum() + np.cov(by_good) / goods.sum())
    found = compare_auroc(labels, first, second)
    assert found.interval[0] < found.difference < found.interval[1]
    assert 0 <= found.p_value <= 1


def test_delong_agrees_with_the_bootstrap() -> None:
    labels, first = draw(1, None)
    second = np.clip(0.5 * first + 0.5 * draw(6, None)[1], 0, 1)
    rng = np.random.default_rng(0)
    bad, good = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    differences = []
    for _ in range(400):
        take = np.concatenate([rng.choice(bad, bad.size), rng.choice(good, good.size)])
        differences.append(sk.roc_auc_score(labels[take], first[take]) - sk.roc_auc_score(labels[take], second[take]))
    low, high = compare_auroc(labels, first, second).interval
    assert (high - low) / 2 / 1.96 == pytest.approx(np.std(differences), rel=0.12)


def test_delong_without_any_difference_and_with_too_few() -> None:
    labels, scores = draw(2, None)
    same = compare_auroc(labels, scores, scores)
    assert same.p_value == 1.0
    assert same.difference == 0.0
    with pytest.raises(KnownGoodError, match="at least two"):
        compare_auroc([0, 0, 1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])


def test_mcnemar_is_the_binomial_test_of_the_disagreements() -> None:
    labels, scores = draw(3, None)
    first, second = scores >= 0.5, scores >= 0.4
    found = compare_accuracy(labels, first, second)
    a, b = found.only_a_right, found.only_b_right
    assert a + b == int((first != second).sum())
    assert a - b == int((first == labels).sum() - (second == labels).sum())
    assert found.p_value == pytest.approx(binomtest(a, a + b).pvalue)
    assert compare_accuracy(labels, first, first).p_value == 1.0


@pytest.mark.parametrize(("escapes", "bads"), [(0, 20), (3, 50), (20, 20)])
def test_exact_interval_agrees_with_scipy(escapes: int, bads: int) -> None:
    ci = binomtest(escapes, bads).proportion_ci(0.95, method="exact")
    assert proportion_interval(escapes, bads) == pytest.approx((ci.low, ci.high))
    if escapes < bads:
        assert ci.high == pytest.approx(beta.ppf(0.975, escapes + 1, bads - escapes))

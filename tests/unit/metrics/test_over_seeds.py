"""Holm's correction against its definition; a figure over seeds against formulas by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from knowngood.errors import KnownGoodError
from knowngood.metrics.comparisons import compare_overkill, holm, over_seeds
from knowngood.metrics.figures import fpr_at_tpr


def rejected_by_definition(p_values: np.ndarray, level: float) -> np.ndarray:
    """Holm's step-down as he wrote it: go through them in order, stop at the first that is not small enough."""
    rejected = np.zeros(len(p_values), bool)
    for step, place in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[place] > level / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected


def test_holm_is_its_definition() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 5, 15):
        for _ in range(50):
            p_values = random.random(count) ** 3
            for level in (0.01, 0.05, 0.3):
                assert ((holm(p_values) <= level) == rejected_by_definition(p_values, level)).all()


def test_holm_on_a_published_example() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).max() <= 1
    assert len(holm([])) == 0


def test_one_seed_has_the_error_of_the_images() -> None:
    found = over_seeds([0.03], [0.01])
    assert found.interval == pytest.approx((0.03 - 1.959964 * 0.01, 0.03 + 1.959964 * 0.01), abs=1e-6)
    assert found.p_value == pytest.approx(2 * norm.sf(3))


def test_seeds_without_error_of_the_images_are_a_paired_t_test() -> None:
    values = [0.02, 0.05, 0.01, 0.03]
    from scipy.stats import ttest_1samp

    assert over_seeds(values, [0.0] * 4).p_value == pytest.approx(ttest_1samp(values, 0).pvalue)


def test_both_errors_add_up() -> None:
    found = over_seeds([0.02, 0.04, 0.03], [0.01, 0.02, 0.03])
    training = np.var([0.02, 0.04, 0.03], ddof=1) / 3
    squared = 0.02**2 + training
    assert found.error == pytest.approx(np.sqrt(squared))
    freedom = squared**2 / (training**2 / 2)
    assert found.p_value == pytest.approx(2 * student.sf(0.03 / np.sqrt(squared), freedom))


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.1, 0.0)])
def test_without_any_spread_it_is_certain(value: float, p_value: float) -> None:
    assert over_seeds([value] * 3, [0.0] * 3).p_value == p_value


def test_false_alarms_stay_below_the_level_when_seeds_share_their_images() -> None:
    """No difference in truth: the noise of the images is the same for all seeds, that of the trainings is not."""
    random = np.random.default_rng(1)
    images, trainings = random.normal(0, 0.01, 2000), random.normal(0, 0.005, (2000, 3))
    alarms = [over_seeds(i + t, [0.01] * 3).p_value < 0.05 for i, t in zip(images, trainings, strict=True)]
    assert np.mean(alarms) < 0.06


def test_lengths_must_agree() -> None:
    with pytest.raises(KnownGoodError):
        over_seeds([0.1, 0.2], [0.1])
    with pytest.raises(KnownGoodError):
        over_seeds([], [])


def test_outcomes_follow_the_side_that_is_better() -> None:
    better = over_seeds([0.05, 0.02, 0.04, 0.04], [0.0] * 4)
    assert better.outcome() == "helped"
    assert better.outcome(higher_is_better=False) == "hurt"
    worse = over_seeds([-0.05, -0.02, -0.04, -0.04], [0.0] * 4)
    assert worse.outcome() == "hurt"
    assert worse.outcome(higher_is_better=False) == "helped"
    assert over_seeds([1.0, -1.0, 0.0], [0.0] * 3).outcome() == "cannot tell"


def test_the_error_of_the_images_alone_can_make_a_difference_uncertain() -> None:
    assert over_seeds([0.03, 0.031, 0.029], [0.001] * 3).outcome() == "helped"
    assert over_seeds([0.03, 0.031, 0.029], [0.02] * 3).outcome() == "cannot tell"


def test_one_measurement_counted_several_times_is_no_evidence() -> None:
    assert over_seeds([-0.0035] * 3, [0.0] * 3).outcome() == "cannot tell"
    assert over_seeds([0.0] * 3, [0.0] * 3).outcome() == "cannot tell"


def test_intervals_cover_the_true_difference_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    intervals = [over_seeds(row, np.zeros(5)).interval for row in random.normal(0.3, 1, (2000, 5))]
    assert 0.935 < np.mean([low < 0.3 < high for low, high in intervals]) < 0.965


def test_the_error_of_an_overkill_difference() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], [300, 300])
    scores = random.normal(size=600) + 2 * labels
    other = scores + random.normal(0, 1, 600)
    same = compare_overkill(labels, scores, scores, tpr=0.995)
    assert (same.difference, same.error) == (0, 0)
    found = compare_overkill(labels, scores, other, tpr=0.995)
    overkill = [fpr_at_tpr(labels, score, 0.995) for score in (scores, other)]
    assert found.difference == overkill[0] - overkill[1]
    draws, differences = np.random.default_rng(0), []
    for _ in range(300):  # one resample after the other, by the function for one sample
        rows = np.concatenate([draws.integers(0, 300, 300), 300 + draws.integers(0, 300, 300)])
        one, two = (fpr_at_tpr(labels[rows], score[rows], 0.995) for score in (scores, other))
        differences.append(one - two)
    assert found.error == pytest.approx(np.std(differences, ddof=1), rel=1e-12)
    assert 0.005 < found.error < 0.3


def test_an_overkill_needs_both_classes() -> None:
    with pytest.raises(KnownGoodError, match="both classes"):
        compare_overkill([0, 0], [0.1, 0.2], [0.1, 0.2], tpr=0.995)

"""Paired differences over repeats: by hand and against scipy, both directions, the correction for shared images."""

import numpy as np
import pytest
from scipy import stats

from knowngood.errors import KnownGoodError
from knowngood.metrics.comparisons import compare_repeats

WITH, WITHOUT = [0.95, 0.93, 0.96, 0.94], [0.90, 0.91, 0.92, 0.90]


def test_without_overlap_it_is_the_paired_t_interval():
    found = compare_repeats(WITH, WITHOUT, overlap=0)
    oracle = stats.ttest_rel(WITH, WITHOUT)
    assert found.difference == pytest.approx(np.mean(WITH) - np.mean(WITHOUT))
    assert found.interval == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert (found.outcome, found.repeats) == ("helped", 4)


def test_shared_images_widen_the_interval_as_nadeau_and_bengio_say():
    plain, wider = (compare_repeats(WITH, WITHOUT, overlap=overlap) for overlap in (0, 0.5))
    ratio = (wider.interval[1] - wider.difference) / (plain.interval[1] - plain.difference)
    assert ratio == pytest.approx(np.sqrt((1 / 4 + 0.5) / (1 / 4)))


def test_outcomes_follow_the_side_that_is_better():
    assert compare_repeats(WITH, WITHOUT, overlap=0, higher_is_better=False).outcome == "hurt"
    assert compare_repeats(WITHOUT, WITH, overlap=0).outcome == "hurt"
    assert compare_repeats(WITHOUT, WITH, overlap=0, higher_is_better=False).outcome == "helped"
    assert compare_repeats([1, 0, 1], [0, 1, 1], overlap=0).outcome == "cannot tell"


def test_no_difference_at_all_tells_nothing():
    found = compare_repeats(WITH, WITH, overlap=0.4)
    assert (found.difference, found.interval, found.outcome) == (0, (0, 0), "cannot tell")


def test_one_measurement_counted_several_times_is_no_evidence():
    found = compare_repeats([0.9008] * 3, [0.9043] * 3, overlap=0.4)
    assert found.difference == pytest.approx(-0.0035)
    assert found.outcome == "cannot tell"


def test_intervals_cover_the_true_difference_as_often_as_they_say():
    random = np.random.default_rng(0)
    pairs = random.normal(0.3, 1, (2000, 5))
    held = [compare_repeats(row, np.zeros(5), overlap=0).interval for row in pairs]
    share = np.mean([low < 0.3 < high for low, high in held])
    assert 0.935 < share < 0.965


@pytest.mark.parametrize("pair", [([0.9], [0.8]), ([0.9, 0.8], [0.7])])
def test_what_does_not_pair_is_refused(pair):
    with pytest.raises(KnownGoodError, match="do not pair"):
        compare_repeats(*pair, overlap=0)

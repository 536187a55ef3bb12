"""The rule on raw_scores says what the cuts on scores say, to the last bit of float32."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.metrics.calibration import Calibration
from knowngood.metrics.cascade import cascade_cuts
from knowngood.metrics.thresholds import decide
from knowngood.recipe.cascade import ACCEPTED, PASSED, REJECTED, Rule, edges

STUDENT, LARGE = Calibration(temperature=0.7, bias=-0.4), Calibration(temperature=2.3, bias=0.9)


@pytest.mark.parametrize("threshold", [1e-200, 1e-6, 0.0921, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("calibration", [STUDENT, LARGE, Calibration(temperature=1e-3, bias=5)])
def test_edges_are_neighbours_on_both_sides(threshold, calibration):
    below, above = edges(calibration, threshold)
    assert np.nextafter(below, np.float32(np.inf)) == above
    assert calibration.apply([below])[0] < threshold <= calibration.apply([above])[0]


def test_raw_scores_of_the_whole_decide_as_its_scores():
    rng = np.random.default_rng(0)
    label = (rng.random(3000) < 0.3).astype(np.uint8)
    small = (np.where(label, 1.0, -1.0) + rng.normal(0, 1, 3000)).astype(np.float32)
    big = (np.where(label, 4.0, -4.0) + rng.normal(0, 3, 3000)).astype(np.float32)
    student, large = STUDENT.apply(small), LARGE.apply(big)
    cuts = cascade_cuts(label, student, large, certainty=0.5, escape_budget=0.03)
    rule = Rule(cuts.low, cuts.high, cuts.threshold.threshold, STUDENT, LARGE)
    zones = rule.zones(small)
    assert set(zones.tolist()) == {ACCEPTED, PASSED, REJECTED}
    raw_scores = rule.whole(small, zones, big[zones == PASSED])
    assert raw_scores.dtype == np.float32
    scores, want = LARGE.apply(raw_scores), cuts.whole(student, large)
    np.testing.assert_allclose(scores, want, atol=1e-6)
    np.testing.assert_array_equal(decide(scores, cuts.threshold.pair), decide(want, cuts.threshold.pair))
    np.testing.assert_array_equal(raw_scores[zones == PASSED], big[zones == PASSED])

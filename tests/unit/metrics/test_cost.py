"""Costs: by hand, at the line's defect rate, and the cheapest threshold against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.errors import CalibrationError
from knowngood.metrics.cost import Prices, cheapest_threshold, expected_cost
from knowngood.metrics.thresholds import Thresholds

PRICES = Prices(escape=100.0, overkill=0.5, review=0.1, defect_rate=0.01)


def test_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1]
    scores = [0.1, 0.2, 0.5, 0.9, 0.2, 0.9]
    found = expected_cost(labels, scores, thresholds=Thresholds(0.3, 0.6), prices=PRICES)
    assert found.escapes == pytest.approx(1e6 * 0.01 / 2)
    assert found.overkill == pytest.approx(1e6 * 0.99 / 4)
    assert found.reviews == pytest.approx(1e6 * 0.99 / 4)
    assert found.total == pytest.approx(found.escapes * 100 + found.overkill * 0.5 + found.reviews * 0.1)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_threshold_is_cheaper(rows: list[tuple[int, int]]) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] / 9 for r in rows])
    if labels.min() == labels.max():
        with pytest.raises(CalibrationError, match="one of each"):
            cheapest_threshold(labels, scores, prices=PRICES)
        return
    best = cheapest_threshold(labels, scores, prices=PRICES)
    for cut in np.linspace(-0.05, 1.05, 111):
        other = expected_cost(labels, scores, thresholds=Thresholds(cut, cut), prices=PRICES)
        assert best.total <= other.total + 1e-6


def test_a_rarer_defect_moves_the_threshold_up() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 400)
    scores = np.concatenate([rng.beta(2, 4, 400), rng.beta(4, 2, 400)])
    rare, common = (
        cheapest_threshold(labels, scores, prices=Prices(escape=10, overkill=1, defect_rate=rate))
        for rate in (0.001, 0.3)
    )
    assert rare.thresholds.accept_below > common.thresholds.accept_below

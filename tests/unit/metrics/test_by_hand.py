"""Cuts that a person sets: counts, exact bounds, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from knowngood.errors import ConfigError
from knowngood.metrics.thresholds import BY_HAND, Thresholds, checked_cuts, moved, threshold_by_hand

LABELS = np.array([0] * 100 + [1] * 40)
SCORES = np.concatenate([np.linspace(0.0, 0.5, 100), np.linspace(0.2, 1.0, 40)])


def test_counts_and_bounds_are_those_of_clopper_and_pearson() -> None:
    found = threshold_by_hand(LABELS, SCORES, Thresholds(0.3, 0.45), confidence=0.9, escape_budget=0.3)
    escapes = int((SCORES[100:] < 0.3).sum())
    rejected = int((SCORES[:100] >= 0.45).sum())
    assert (found.escapes, found.bads, found.goods, found.basis) == (escapes, 40, 100, BY_HAND)
    assert found.certified_escape_rate == pytest.approx(beta.ppf(0.9, escapes + 1, 40 - escapes))
    assert found.certified_overkill_rate == pytest.approx(beta.ppf(0.9, rejected + 1, 100 - rejected))
    assert found.certified  # the bound lies within 30 %
    assert found.overkill == pytest.approx((SCORES[:100] >= 0.3).mean())
    assert f"{escapes} would be let through" in found.sentence
    assert f"{rejected} would be rejected" in found.sentence
    assert "to review" in found.sentence
    assert not threshold_by_hand(LABELS, SCORES, Thresholds(0.3, 0.3), escape_budget=0.01).certified
    assert "to review" not in threshold_by_hand(LABELS, SCORES, Thresholds(0.3, 0.3)).sentence


def test_one_class_alone_leaves_the_other_rate_unknown() -> None:
    goods = threshold_by_hand(np.zeros(23), np.linspace(0, 0.4, 23), Thresholds(0.5, 0.5), overkill_budget=0.2)
    assert goods.certified_escape_rate is None
    assert "Escape rate: unknown" in goods.sentence
    assert goods.certified  # 0 of 23 prove 12.3 %
    assert "23 goods 0 would be rejected" in goods.sentence
    bads = threshold_by_hand(np.ones(1), np.array([0.7]), Thresholds(0.5, 0.5))
    assert bads.overkill is None
    assert "1 bad of" in bads.sentence


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        ((0.5, 0.5), (0.3, None), (0.3, 0.3)),  # no review band: both cuts move
        ((0.5, 0.8), (0.3, None), (0.3, 0.8)),  # a cut that is not named stays
        ((0.5, 0.5), (None, 0.8), (0.5, 0.8)),
        ((0.5, 0.5), (0.2, 0.6), (0.2, 0.6)),
        ((0.5, 0.5), (0, 1), (0.0, 1.0)),
        ((0.5, 0.5), (np.float32(0.25), None), (0.25, 0.25)),
    ],
)
def test_which_cuts_move(before: tuple[float, float], given: tuple[float, float], after: tuple[float, float]) -> None:
    assert moved(Thresholds(*before), *given) == Thresholds(*after)


@pytest.mark.parametrize(
    "given",
    [
        (math.nan, None),
        (math.inf, None),
        (-0.1, None),
        (None, 1.1),
        (0.7, 0.6),
        ("0.5", None),
        (True, None),
        (None, None),
    ],
)
def test_cuts_that_are_none(given: tuple[object, object]) -> None:
    with pytest.raises(ConfigError):
        moved(Thresholds(0.5, 0.8), *given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="accept_below <= reject_from"):
        checked_cuts(0.9, 0.8)

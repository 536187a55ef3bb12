"""Counts of decisions, the certificate held against new units, required rates."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from knowngood.errors import ConfigError
from knowngood.metrics.decisions import DecisionCounts, check_certificate, check_limit, check_requirement

DECISIONS = ["accept", "accept", "review", "reject", "accept", "review", "reject", "reject"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def test_counts_by_hand() -> None:
    counts = DecisionCounts.of(LABELS, DECISIONS)
    assert counts.good == {"accept": 2, "review": 1, "reject": 1}
    assert counts.bad == {"accept": 1, "review": 1, "reject": 2}
    assert (counts.escapes, counts.overkill, counts.reviews, counts.wrong) == (1, 1, 2, 2)
    document = counts.to_dict()
    assert document["escapes"]["rate"] == 0.25
    low, high = document["escapes"]["interval"]
    assert low < 0.25 < high
    assert document["reviewed"] == {**document["reviewed"], "count": 2, "units": 8, "rate": 0.25}


def test_one_class_has_no_rate_of_the_other() -> None:
    document = DecisionCounts.of([0, 0], ["accept", "reject"]).to_dict()
    assert document["escapes"] == {"count": 0, "units": 0, "rate": None, "interval": None}
    assert document["escape_bound"] is None
    assert document["overkill"]["rate"] == 0.5


@pytest.mark.parametrize(
    ("count", "units", "finding"),
    [
        (0, 0, "no units"),
        (0, 11, "too few"),
        (0, 298, "too few"),
        (0, 299, "confirmed"),
        (2, 400, "compatible"),
        (9, 400, "contradicted"),
        (2, 11, "contradicted"),
        (11, 11, "contradicted"),
    ],
)
def test_the_certificate_of_one_percent(count: int, units: int, finding: str) -> None:
    found = check_certificate("escape", count, units, 0.01)
    assert found.finding == finding
    if units:
        assert found.p_value == pytest.approx(binom.sf(count - 1, units, 0.01))
        assert str(units) in found.sentence
    if finding == "too few":
        assert "299" in found.sentence
        assert f"{299 - units} more" in found.sentence


@pytest.mark.parametrize("promised", [None, 0.776, 1.0])
def test_nothing_sensible_was_certified(promised: float | None) -> None:
    found = check_certificate("overkill", 3, 20, promised)
    assert found.finding == "no promise"
    assert found.p_value is None
    assert found.upper_bound is not None


@pytest.mark.parametrize(
    ("limit", "passed", "proven"), [(0.0, False, False), (0.2, False, False), (0.25, True, False), (1.0, True, True)]
)
def test_a_required_rate(limit: float, passed: bool, proven: bool) -> None:
    found = check_requirement("escape", limit, DecisionCounts.of(LABELS, DECISIONS))
    assert (found.passed, found.proven) == (passed, proven)
    assert "1 of 4 bads" in found.sentence


def test_without_units_a_requirement_is_not_met() -> None:
    found = check_requirement("escape", 0.5, DecisionCounts.of([0], ["accept"]))
    assert not found.passed
    assert found.rate is None


@pytest.mark.parametrize("limit", [-0.1, 1.5, float("nan")])
def test_a_limit_is_a_share(limit: float) -> None:
    with pytest.raises(ConfigError, match="--max-overkill-rate"):
        check_limit("overkill", limit)

"""Calibration: recovers what made the labels, keeps the order, and survives hopeless data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from knowngood.errors import KnownGoodError
from knowngood.metrics.calibration import Calibration, fit_calibration
from knowngood.metrics.figures import expected_calibration_error


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4], ids=["tiny logits", "logits", "huge logits"])
def test_recovers_the_temperature_and_bias_that_made_the_labels(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 20_000)
    labels = rng.random(20_000) < expit(logits / 2.5 - 1.0)
    found = fit_calibration(logits * scale, labels)
    assert found.temperature == pytest.approx(2.5 * scale, rel=0.06)
    assert found.bias == pytest.approx(-1.0, abs=0.08)
    assert found.note is None
    scores = found.apply(logits * scale)
    assert expected_calibration_error(labels, scores) < 0.01
    assert (np.diff(scores[np.argsort(logits)]) >= 0).all()


def test_separable_data_stay_finite_and_confident() -> None:
    logits = np.concatenate([np.linspace(-9, -3, 500), np.linspace(3, 9, 100)])
    labels = np.repeat([0, 1], [500, 100])
    scores = fit_calibration(logits, labels).apply(logits)
    assert np.isfinite(scores).all()
    assert scores[labels == 0].max() < 0.1 < 0.9 < scores[labels == 1].min()


def test_few_bads_are_noted() -> None:
    found = fit_calibration(np.arange(20.0), np.arange(20) >= 18)
    assert "2 bad images" in found.note


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_left_as_it_is(label: int) -> None:
    found = fit_calibration([0.5, 1.0], [label, label])
    assert (found.temperature, found.bias) == (1.0, 0.0)
    assert "both classes" in found.note


def test_equal_logits_are_left_as_they_are() -> None:
    assert "same logit" in fit_calibration([2.0, 2.0], [0, 1]).note


def test_reversed_logits_never_turn_the_order_round() -> None:
    logits = np.linspace(-5, 5, 200)
    found = fit_calibration(logits, logits < 0)
    assert found.temperature > 0
    assert "do not rise" in found.note


def test_goes_through_json() -> None:
    once = fit_calibration(np.linspace(-2, 2, 100), np.arange(100) % 3 == 0)
    assert Calibration.model_validate_json(once.model_dump_json()) == once
    with pytest.raises(ValueError, match="greater than or equal"):
        Calibration(temperature=0)


def test_nan_logits_are_refused() -> None:
    with pytest.raises(KnownGoodError, match="NaN"):
        fit_calibration([0.0, np.nan], [0, 1])

"""Every registered detector keeps the public contract, and the contract notices detectors that do not."""

import numpy as np
import pytest

from knowngood.errors import ConfigError, UnknownNameError
from knowngood.outliers.check_detector import CHECKS, ContractError, check_detector
from knowngood.outliers.detectors import DETECTORS, Detector, fraction_threshold


@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("name", list(DETECTORS))
def test_the_contract_holds(name, check):
    CHECKS[check](DETECTORS.get(name))


class Norm(Detector):
    """A right detector in four lines: the distance from the mean."""

    order_free = True

    def fit_rows(self, rows):
        self.mean_ = rows.mean(axis=0, dtype=np.float64)
        self.threshold_ = fraction_threshold(self.score_rows(rows), 0.05)

    def score_rows(self, rows):
        return np.linalg.norm(rows - self.mean_, axis=1)


class UpsideDown(Norm):
    def score_rows(self, rows):
        return -super().score_rows(rows)


class ScalesByBatch(Norm):
    def score(self, features):
        scores = super().score(features)
        return scores / scores.max()


class Writes(Norm):
    def score(self, features):
        features -= self.mean_.astype(np.float32)
        return super().score(features)


class Forgetful(Norm):
    def fit_rows(self, rows):
        super().fit_rows(rows)
        self.mean_ = self.mean_ + np.random.default_rng().normal()


class TakesNan(Norm):
    def fit(self, features):
        self.width_ = features.shape[-1]
        self.fit_rows(np.nan_to_num(features))
        return self

    def score(self, features):
        return self.score_rows(np.nan_to_num(features))


class MixesThreshold(Norm):
    def score(self, features):
        return super().score(features) - self.threshold_


class CountsOnOrder(Norm):
    def fit_rows(self, rows):
        super().fit_rows(rows)
        self.mean_ = rows[0].astype(np.float64)


class Single(Norm):
    def score(self, features):
        return super().score(features).astype(np.float32)


class LearnsWhenMade(Norm):
    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.threshold_ = 0.0


def test_a_right_detector_passes():
    check_detector(Norm)


BROKEN = [
    (LearnsWhenMade, "parameters", "only stores"),
    (Single, "shapes", "not float64"),
    (Forgetful, "fit_score", "fits otherwise"),
    (Forgetful, "determinism", "same seed"),
    (MixesThreshold, "threshold", "changes the scores"),
    (UpsideDown, "direction", "does not score higher"),
    (ScalesByBatch, "batches", "batch"),
    (CountsOnOrder, "order", "order of the fitted rows"),
    (Writes, "inputs_stay", "changed"),
    (TakesNan, "wrong_input", "fit on NaN|before fit"),
]


@pytest.mark.parametrize(("broken", "check", "said"), BROKEN)
def test_a_broken_detector_is_told_what_is_wrong(broken, check, said):
    with pytest.raises(ContractError, match=said):
        CHECKS[check](broken)
    with pytest.raises(ContractError):
        check_detector(broken)


def test_each_check_has_a_detector_that_fails_it():
    assert {check for _, check, _ in BROKEN} == set(CHECKS)


def test_an_unknown_detector_suggests_near_names():
    with pytest.raises(UnknownNameError, match="iforest"):
        DETECTORS.get("ifrest")


def test_parameters_out_of_range_name_the_flag():
    with pytest.raises(ConfigError, match="--nu"):
        DETECTORS.get("ocsvm")(nu=2.0)

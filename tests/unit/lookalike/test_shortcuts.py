"""Nothing but the defect tells good from bad: border, noise, file size and facts alone stay at chance.

Abnormal pictures are left out: a burnt-out picture is bad and is meant to be seen everywhere.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.units import draw_unit

COUNT, EDGE = 500, 14


def auc_of(features: np.ndarray, bad: np.ndarray, model: str) -> float:
    """Cross-validated AUC of a small classifier."""
    if model == "linear":
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    else:
        classifier = HistGradientBoostingClassifier(max_iter=40, min_samples_leaf=30, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return roc_auc_score(bad, cross_val_predict(classifier, features, bad, cv=folds, method="predict_proba")[:, 1])


@pytest.fixture(scope="module")
def units() -> dict[str, np.ndarray]:
    config = TapeConfig(seed=21, bad_rate=0.5, abnormal=0, lots=400, machines=46)
    columns: dict[str, list[object]] = {name: [] for name in ("bad", "border", "noise", "facts", "pixels")}
    for index in range(COUNT):
        unit = draw_unit(index, "train", config)
        image = unit.image.astype(np.float32)
        border = np.concatenate([image[:EDGE], image[-EDGE:]]), np.concatenate([image[:, :EDGE], image[:, -EDGE:]], 1)
        columns["bad"].append(unit.plan.bad)
        columns["border"].append([f(part) for part in border for f in (np.mean, np.std, np.median, np.max, np.min)])
        rest = cv2.Laplacian(image, cv2.CV_32F)[unit.parts == 64]
        columns["noise"].append([rest.std(), np.abs(rest).mean(), *np.percentile(rest, [1, 10, 50, 90, 99])])
        twin_size = len(cv2.imencode(".png", unit.image, [cv2.IMWRITE_PNG_COMPRESSION, 2])[1])
        columns["facts"].append([twin_size, unit.plan.lot, unit.plan.machine])
        columns["pixels"].append(cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA).ravel())
    return {name: np.array(values) for name, values in columns.items()}


@pytest.mark.parametrize("model", ["linear", "trees"])
@pytest.mark.parametrize("shortcut", ["border", "noise", "facts"])
def test_a_shortcut_stays_at_chance(units, shortcut, model):
    """The standard error of an AUC of 0.5 with 250 and 250 is 0.026; three of them are allowed."""
    assert abs(auc_of(units[shortcut], units["bad"], model) - 0.5) < 0.078


def test_a_linear_model_on_pixels_is_not_enough(units):
    assert auc_of(units["pixels"], units["bad"], "linear") < 0.75


def test_the_twins_of_bad_units_are_good_units():
    """Grey levels of twins and of good units come from one distribution."""
    config = TapeConfig(seed=5, bad_rate=0.5, abnormal=0)
    drawn = [draw_unit(index, "train", config) for index in range(160)]
    means = np.array([[unit.twin.mean(), unit.twin.std()] for unit in drawn])
    bad = np.array([unit.plan.bad for unit in drawn])
    difference = means[bad].mean(axis=0) - means[~bad].mean(axis=0)
    error = means.std(axis=0) * np.sqrt(1 / bad.sum() + 1 / (~bad).sum())
    assert (np.abs(difference) < 3 * error).all()
